"use strict";
// Figures of the token under the pointer, finger or keyboard focus, read from the table below its response.
const tip = document.getElementById("tip");
let current = null;
function hide() {
  tip.hidden = true;
  if (current) current.classList.remove("on");
  current = null;
}
function open(token) {
  if (token === current) return;
  hide();
  const table = token.closest("article").querySelector("table.tokens");
  const row = table.tBodies[0].rows[Number(token.dataset.t)];
  const list = document.createElement("dl");
  for (let i = 0; i < row.cells.length; i++) {
    if (!row.cells[i].textContent) continue;
    const name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = i === 0 ? "position" : i === 6 ? "others" : table.tHead.rows[0].cells[i].textContent;
    value.textContent = row.cells[i].textContent;
    list.append(name, value);
  }
  tip.replaceChildren(list);
  tip.hidden = false;
  current = token;
  token.classList.add("on");
  const at = token.getBoundingClientRect(), box = tip.getBoundingClientRect();
  const below = at.bottom + box.height + 8 < innerHeight;
  tip.style.top = scrollY + (below ? at.bottom + 6 : at.top - box.height - 6) + "px";
  tip.style.left = scrollX + Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.width - 8)) + "px";
}
function wire() {
  for (const response of document.querySelectorAll(".response")) {
    const tokens = [...response.querySelectorAll(".tok")];
    if (!tokens.length) continue;
    tokens[0].tabIndex = 0;
    const move = (from, to) => {
      if (!tokens[to]) return;
      tokens[from].tabIndex = -1;
      tokens[to].tabIndex = 0;
      tokens[to].focus();
    };
    response.addEventListener("pointerover", e => { const t = e.target.closest(".tok"); if (t) open(t); });
    response.addEventListener("pointerleave", e => { if (e.pointerType === "mouse") hide(); });
    response.addEventListener("focusin", e => { const t = e.target.closest(".tok"); if (t) open(t); });
    response.addEventListener("focusout", hide);
    response.addEventListener("click", e => { const t = e.target.closest(".tok"); if (t) open(t); });
    response.addEventListener("keydown", e => {
      const i = tokens.indexOf(e.target);
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tokens.length - 1 }[e.key];
      if (i < 0 || to === undefined) { if (e.key === "Escape") hide(); return; }
      e.preventDefault();
      move(i, to);
    });
  }
}
wire();
document.addEventListener("pointerdown", e => { if (!e.target.closest(".tok")) hide(); });
addEventListener("scroll", hide, { passive: true });
