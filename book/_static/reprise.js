// Small helps; every page can be read without them.
"use strict";

// The scoreboard's filter; the address keeps what is chosen.
for (const form of document.querySelectorAll(".reprise-filter")) {
  const table = document.querySelector(".reprise-scoreboard");
  const apply = () => {
    const part = form.elements.part.value, verdict = form.elements.verdict.value;
    let shown = 0, all = 0;
    for (const body of table.tBodies) {
      let left = 0;
      for (const row of body.querySelectorAll("tr[data-verdict]")) {
        row.hidden = (part && body.dataset.part !== part) || (verdict && row.dataset.verdict !== verdict);
        all += 1;
        left += row.hidden ? 0 : 1;
      }
      body.hidden = left === 0;
      shown += left;
    }
    form.querySelector("output").textContent = `${shown} of ${all} claims shown`;
  };
  const remember = () => {
    const chosen = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    try { history.replaceState(null, "", `${location.pathname}${chosen.size ? "?" : ""}${chosen}`); } catch { /* a file's address may not change */ }
  };
  for (const [name, value] of new URLSearchParams(location.search)) {
    const select = form.elements[name];
    if (select instanceof HTMLSelectElement && [...select.options].some((option) => option.value === value)) select.value = value;
  }
  form.addEventListener("change", () => { apply(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

// Explorers: range inputs choose one of the drawn images. The others are fetched when someone reaches for a slider.
for (const explorer of document.querySelectorAll(".reprise-explorer")) {
  const frames = JSON.parse(explorer.dataset.frames), image = explorer.querySelector("img");
  const inputs = [...explorer.querySelectorAll("input")];
  const show = () => {
    let index = 0;
    const readings = [];
    for (const input of inputs) {
      const options = JSON.parse(input.dataset.options), reading = options[input.value];
      index = index * options.length + Number(input.value);
      input.setAttribute("aria-valuetext", reading);
      input.nextElementSibling.textContent = reading;
      readings.push(`${input.labels[0].textContent} = ${reading}`);
    }
    image.src = frames[index];
    image.alt = readings.join(", ");
  };
  explorer.addEventListener("input", show);
  const ahead = () => frames.forEach((source) => { new Image().src = source; });
  explorer.addEventListener("pointerenter", ahead, { once: true });
  explorer.addEventListener("focusin", ahead, { once: true });
  if (inputs.some((input) => input.value !== input.defaultValue)) show();  // a browser that kept the sliders of the last visit
}

// Mathematics: Sphinx leaves TeX in the page, between delimiters that say how it stands.
if (window.katex) {
  for (const element of document.querySelectorAll(".math")) {
    const number = element.querySelector(".eqno");
    number?.remove();
    const tex = element.textContent.trim().replace(/^\\[([]|\\[)\]]$/g, "");
    katex.render(tex, element, { displayMode: element.tagName === "DIV", throwOnError: false });
    if (number) element.prepend(number);
  }
}

// Names that the theme leaves out, or that differ from the text one sees.
for (const button of document.querySelectorAll(".search-button-field, details.hide > summary")) button.removeAttribute("aria-label");
for (const summary of document.querySelectorAll(".bd-sidebar-primary .has-children > details > summary")) {
  const link = summary.closest(".has-children").querySelector(":scope > a");
  if (link) summary.setAttribute("aria-label", `Chapters of ${link.textContent.trim()}`);
}
for (const entry of document.querySelectorAll(".citation-list > .citation")) entry.setAttribute("role", "listitem");

// What scrolls sideways can be scrolled by keyboard.
const reachable = () => {
  for (const wide of document.querySelectorAll('.katex-display, .highlight pre, .pst-scrollable-table-container')) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
  }
};
window.addEventListener("load", () => {
  reachable();
  new ResizeObserver(reachable).observe(document.body);
});
