// The list of open invitations on the front page, kept up to date by the notification stream.

import { $, el, show } from "./dom.js";
import { OWN, Stream } from "./stream.js";

export class Invitations {
  constructor(accept) {
    this.accept = accept;
    this.open = new Map();
    this.stream = new Stream("v1/me", OWN, { frame: (type, body) => this.receive(type, body), state: () => {} });
    this.render();
  }

  receive(type, body) {
    if (type === "snapshot") this.open = new Map(body.invitations.map((one) => [one.session.id, one]));
    else if (type === "session_invitation") this.open = new Map([[body.session.id, body], ...this.open]);
    else if (type === "invitation_closed") this.open.delete(body.session_id);
    this.render();
  }

  render() {
    $("invitation-list").replaceChildren(...[...this.open.values()].map(({ session, by }) =>
      el("li", {},
        el("span", { class: "what" }, el("strong", {}, session.title), by && ` ${by.name} invites you.`),
        el("button", { class: "primary", onclick: () => this.accept(session.id) }, "Join"))));
    show($("invitations"), this.open.size > 0);
  }

  close() {
    this.stream.close();
    show($("invitations"), false);
  }
}
