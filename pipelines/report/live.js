// A page that is served follows its run: when the run has moved, what is new takes the place of what is shown, without a reload, so that
// the place on the page, what is unfolded and how tokens are coloured stay.
{
  const say = document.getElementById("live");
  let seen = say.dataset.state;
  const unfolded = () => [...document.querySelectorAll("details")].map(d => d.open);
  async function look() {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      say.textContent = state.note;
      if (state.state !== seen) {
        const next = new DOMParser().parseFromString(await (await fetch("", { cache: "no-store" })).text(), "text/html");
        const open = unfolded(), checked = document.querySelector("input[name=colour]:checked");
        hide();
        for (const part of ["header", "main"]) document.querySelector(part).replaceWith(document.adoptNode(next.querySelector(part)));
        const all = document.querySelectorAll("details");
        if (all.length === open.length) all.forEach((d, i) => { d.open = open[i]; });
        const again = checked && document.getElementById(checked.id);
        if (again) again.checked = true;
        wire();
        seen = state.state;
      }
    } catch {
      say.textContent = "The program that served this page has ended; what is shown is the last that it said.";
    }
    setTimeout(look, 2000);
  }
  setTimeout(look, 2000);
}
