// The map of the papers: lines over a nested list, and a way to walk along them. Without this script it is a list.
"use strict";

for (const map of document.querySelectorAll(".reprise-map")) {
  const svg = map.querySelector("svg"), card = map.querySelector(".reprise-map-card"), hint = card.innerHTML;
  const items = new Map([...map.querySelectorAll("li[data-slug]")].map((item) => [item.dataset.slug, item]));
  const links = [...map.querySelectorAll("a")];
  const slugs = (item, name) => item.dataset[name].split(" ").filter(Boolean);
  const edges = [];
  for (const [slug, item] of items) {
    for (const needed of slugs(item, "needs")) {
      const path = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      const from = items.get(needed);
      path.dataset.edge = `${needed} ${slug}`;
      path.classList.toggle("is-far", !from.contains(item));
      edges.push({ path, from, to: item });
    }
  }

  // Lines: an elbow from a paper to one that hangs below it, a curve to one elsewhere.
  const place = (item) => {
    const origin = map.getBoundingClientRect(), dot = item.querySelector(".reprise-dot").getBoundingClientRect();
    const words = item.querySelector("a").getBoundingClientRect();
    return { x: dot.x + dot.width / 2 - origin.x, y: dot.y + dot.height / 2 - origin.y, r: dot.width / 2 + 1, end: words.right + 4 - origin.x };
  };
  const line = (a, b, hangs) => {
    if (hangs) return `M${a.x},${a.y + a.r}V${b.y - 7}q0,7 7,7H${b.x - b.r}`;
    if (Math.abs(a.x - b.x) < 60) {  // in one column: through the margin
      const bend = Math.min(a.x, b.x) - 16;
      return `M${a.x - a.r},${a.y}C${bend},${a.y} ${bend},${b.y} ${b.x - b.r},${b.y}`;
    }
    const [start, stop] = a.x < b.x ? [a.end, b.x - b.r] : [a.x - a.r, b.end], middle = (start + stop) / 2;
    return `M${start},${a.y}C${middle},${a.y} ${middle},${b.y} ${stop},${b.y}`;
  };
  const draw = () => {
    for (const { path, from, to } of edges) path.setAttribute("d", line(place(from), place(to), from.contains(to)));
  };
  new ResizeObserver(draw).observe(map);
  document.fonts?.ready.then(draw);

  // One paper is marked: what it builds on and what builds on it stay, the rest steps back.
  let marked = null;
  const mark = (item) => {
    if (item === marked) return;
    marked = item;
    const on = new Set(item ? [item.dataset.slug, ...slugs(item, "before"), ...slugs(item, "after")] : []);
    map.classList.toggle("has-mark", Boolean(item));
    for (const [slug, other] of items) {
      other.classList.toggle("is-on", on.has(slug));
      other.classList.toggle("is-marked", other === item);
    }
    const [past, future] = item ? ["before", "after"].map((name) => new Set([item.dataset.slug, ...slugs(item, name)])) : [];
    for (const { path, from, to } of edges) {
      const ends = [from.dataset.slug, to.dataset.slug];
      path.classList.toggle("is-on", Boolean(item) && [past, future].some((side) => ends.every((slug) => side.has(slug))));
    }
    card.innerHTML = hint;
    if (item) {
      card.innerHTML = `<strong></strong>${item.querySelector(".reprise-unseen").innerHTML}`;
      card.querySelector("strong").textContent = item.querySelector("a").title;
    }
  };
  const paper = (target) => target.closest?.("li[data-slug] > :is(a, .reprise-dot, .reprise-map-signs)")?.parentElement ?? null;
  map.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") mark(paper(event.target)); });
  map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") mark(paper(document.activeElement)); });
  map.addEventListener("focusin", (event) => mark(paper(event.target)));
  map.addEventListener("focusout", () => mark(null));
  // A finger cannot hover: its first tap marks, its second opens.
  let touched = null;
  map.addEventListener("click", (event) => {
    const item = paper(event.target);
    if (item && event.pointerType === "touch" && touched !== item) event.preventDefault();
    touched = item;
    mark(item);
  });

  // By keyboard the map is one stop: arrows walk inside it.
  const stop = (link) => { for (const other of links) other.tabIndex = other === link ? 0 : -1; };
  stop(links[0]);
  map.addEventListener("focusin", (event) => { if (links.includes(event.target)) stop(event.target); });
  map.addEventListener("keydown", (event) => {
    const at = links.indexOf(document.activeElement), item = paper(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const along = (name) => items.get(slugs(item, name)[0])?.querySelector("a");
    const after = () => edges.find(({ from }) => from === item)?.to.querySelector("a");
    const next = {
      ArrowDown: () => links[at + 1], ArrowUp: () => links[at - 1], Home: () => links[0], End: () => links.at(-1),
      ArrowLeft: () => item && along("needs"), ArrowRight: () => item && after(),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    next()?.focus();
  });

  card.hidden = false;
  draw();
}
