// Render an OpenAPI 3.1 document as a reference: the operations by path, then the schemas that they refer to.

import { $, el } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const anchor = (...parts) => parts.join("-").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").toLowerCase();
const refName = (schema) => schema?.$ref?.split("/").pop();

async function load(link) {
  for (const other of $("apis").querySelectorAll("a")) other.toggleAttribute("aria-current", other === link);
  try {
    const response = await fetch(link.href);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    render(await response.json());
  } catch (error) {
    $("reference").replaceChildren(el("p", { class: "notice error" }, `The description could not be loaded: ${error.message}`));
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function render(document_) {
  const schemas = document_.components?.schemas ?? {};
  const operations = Object.entries(document_.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
  const shapes = Object.keys(schemas).sort();
  $("contents").replaceChildren(
    el("h3", {}, "Routes"), el("ul", { class: "links" }, ...operations.map(({ path, method }) =>
      el("li", {}, el("a", { href: `#${anchor(method, path)}` }, verb(method), " ", el("code", {}, path.replace(/^\/v1/, "")))))),
    el("h3", {}, "Shapes"), el("ul", { class: "links" }, ...shapes.map((name) => el("li", {}, el("a", { href: `#shape-${name}` }, el("code", {}, name))))));
  $("reference").replaceChildren(
    el("section", { class: "lead" },
      el("h1", {}, `${document_.info.title} API`),
      el("p", { class: "quiet" }, `Version ${document_.info.version}, OpenAPI ${document_.openapi}. Send an access token as `,
        el("code", {}, "Authorization: Bearer …"), ` for every route with a lock. ${document_.info.description}`)),
    ...operations.map(operation),
    el("h2", { class: "part" }, "Shapes"),
    ...shapes.map((name) => el("section", { class: "panel", id: `shape-${name}` },
      el("h3", { class: "shape" }, name),
      schemas[name].description && el("p", { class: "about" }, schemas[name].description),
      shape(schemas[name]))));
}

const verb = (method) => el("span", { class: `verb ${method}` }, method.toUpperCase());

function operation({ path, method, summary, description, security, parameters = [], requestBody, responses }) {
  const [[type, { schema: body }] = ["", {}]] = Object.entries(requestBody?.content ?? {});
  return el("section", { class: "panel", id: anchor(method, path) },
    el("h2", { class: "route" }, verb(method), " ", el("code", {}, path), security?.length ? el("span", { class: "icon lock", title: "needs an access token", role: "img", "aria-label": "needs an access token" }) : null),
    el("p", { class: "about" }, summary), description && el("p", { class: "about" }, description),
    parameters.length > 0 && el("table", {}, el("caption", {}, "Parameters"), el("tbody", {}, ...parameters.map((parameter) =>
      field(parameter.name, parameter.schema, parameter.required, [parameter.in, parameter.description].filter(Boolean).join(": "))))),
    body && el("div", {}, el("h3", {}, "Body"), type !== "application/json" && el("p", {}, el("code", { class: "quiet" }, type)), shape(body)),
    el("h3", {}, "Answers"),
    el("ul", { class: "answers" }, ...Object.entries(responses).map(([status, answer]) => el("li", {}, el("strong", {}, status), " ",
      ...Object.entries(answer.content ?? {}).flatMap(([type, { schema }]) => [el("code", { class: "quiet" }, type), " ", kind(schema)]),
      !answer.content && el("span", { class: "quiet" }, "no body"),
      status >= "400" && el("span", { class: "limits" }, answer.description)))));
}

// Render a schema in full: its fields, or its alternatives.
function shape(schema) {
  const choices = schema.anyOf ?? schema.oneOf;
  if (refName(schema) || !schema.properties && !choices) return el("p", {}, kind(schema), limits(schema));
  if (choices) return el("p", { class: "choices" }, "One of ", ...join(choices.map(kind), " "));
  const required = new Set(schema.required);
  return el("table", {}, el("tbody", {}, ...Object.entries(schema.properties).map(([name, value]) => field(name, value, required.has(name), value.description))));
}

function field(name, schema = {}, required, about) {
  return el("tr", {}, el("th", { scope: "row" }, el("code", {}, name), required && el("span", { class: "must", title: "required" }, " *")),
    el("td", {}, kind(schema), limits(schema)), el("td", { class: "quiet" }, about ?? ""));
}

// Render a schema as a short type, with links to the schemas that it refers to.
function kind(schema = {}) {
  const name = refName(schema);
  if (name) return el("a", { href: `#shape-${name}` }, name);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return el("span", {}, ...join(choices.map(kind), " | "));
  if ("const" in schema) return el("code", {}, JSON.stringify(schema.const));
  if (schema.enum) return el("span", {}, ...join(schema.enum.map((value) => el("code", {}, JSON.stringify(value))), " | "));
  if (schema.type === "array") return el("span", {}, "list of ", kind(schema.items));
  if (schema.type === "object" && schema.additionalProperties) return el("span", {}, "object of ", kind(schema.additionalProperties));
  return el("span", {}, [schema.type].flat().join(" | ") || "anything");
}

const LIMITS = { minLength: "≥ % characters", maxLength: "≤ % characters", minimum: "≥ %", maximum: "≤ %", maxItems: "≤ % items", pattern: "%", format: "%" };

function limits(schema) {
  const inner = schema.anyOf?.find((choice) => choice.type !== "null") ?? schema;
  const texts = Object.entries(LIMITS).filter(([name]) => inner[name] !== undefined).map(([name, text]) => text.replace("%", () => inner[name]));
  if ("default" in schema && schema.default !== null) texts.push(`default ${JSON.stringify(schema.default)}`);
  return texts.length ? el("span", { class: "limits" }, texts.join(", ")) : null;
}

const join = (parts, text) => parts.flatMap((part, index) => (index ? [text, part] : [part]));

for (const link of $("apis").querySelectorAll("a")) {
  link.addEventListener("click", (event) => { event.preventDefault(); load(link); });
}
const wanted = new URLSearchParams(location.search).get("api");
const links = [...$("apis").querySelectorAll("a")];
load(links.find((link) => link.dataset.api === wanted) ?? links[0]);
