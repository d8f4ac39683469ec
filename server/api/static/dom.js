// Create elements. Text stays text: nothing here parses HTML, and the page's content security policy would forbid it.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function show(element, visible) {
  element.hidden = !visible;
}

export function tell(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

// Split a text into text and links. Only URLs of this server become links.
export function linked(text) {
  return text.split(/(https?:\/\/\S+)/).map((part) => {
    if (!/^https?:/.test(part) || !URL.canParse(part) || new URL(part).origin !== location.origin) return part;
    return el("a", { href: part }, part);
  });
}

export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
