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

// The front page's explorer: range inputs choose one of the drawn images.
for (const figure of document.querySelectorAll(".reprise-front")) {
  const frames = JSON.parse(figure.dataset.frames), names = JSON.parse(figure.dataset.names);
  const inputs = [...figure.querySelectorAll("input")], image = figure.querySelector("img");
  const show = () => {
    let index = 0;
    for (const input of inputs) {
      const options = JSON.parse(input.dataset.options);
      index = index * options.length + Number(input.value);
      input.setAttribute("aria-valuetext", options[input.value]);
      input.nextElementSibling.textContent = options[input.value];
    }
    image.src = frames[index];
    image.alt = names[index];
  };
  for (const input of inputs) input.addEventListener("input", show);
  const ahead = () => frames.forEach((source) => { new Image().src = source; });
  figure.addEventListener("pointerenter", ahead, { once: true });
  figure.addEventListener("focusin", ahead, { once: true });
  figure.querySelector(".reprise-front-sliders").hidden = false;
  show();
}

// The widgets give their slider handles and images no names: each handle gets its label and reading, the image all readings.
const set = (element, name, value) => { if (element.getAttribute(name) !== value) element.setAttribute(name, value); };
const nameExplorers = () => {
  for (const explorer of document.querySelectorAll(".reprise-explorer")) {
    const readings = [];
    for (const slider of explorer.querySelectorAll(".widget-hslider")) {
      const handle = slider.querySelector(".noUi-handle"), label = slider.querySelector(".widget-label");
      const readout = slider.querySelector(".widget-readout");
      if (!handle || !label || !readout) continue;
      set(handle, "aria-label", label.textContent);
      set(handle, "aria-valuetext", readout.textContent);
      readings.push(`${label.textContent} = ${readout.textContent}`);
    }
    for (const image of explorer.querySelectorAll("img")) set(image, "alt", readings.join(", "));
  }
};
if (document.querySelector('script[type="application/vnd.jupyter.widget-view+json"]')) {
  new MutationObserver(nameExplorers).observe(document.body, { subtree: true, childList: true, characterData: true });
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
  for (const wide of document.querySelectorAll('mjx-container[display="true"], .highlight pre, .pst-scrollable-table-container')) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
  }
};
window.addEventListener("load", () => {
  reachable();
  window.MathJax?.startup?.promise?.then(reachable);
  new ResizeObserver(reachable).observe(document.body);
});
