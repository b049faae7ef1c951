// The widgets' labels ask MathJax 2 to typeset them; MathJax 3 has no Hub, so it gets a small one.
"use strict";
{
  const hub = { Queue: (...calls) => {
    for (const [, , element] of calls.filter((call) => call[0] === "Typeset")) window.MathJax.typesetPromise?.([element]);
  } };
  let current = window.MathJax;
  const withHub = (value) => { if (value) value.Hub = hub; return value; };
  Object.defineProperty(window, "MathJax", { configurable: true, get: () => current, set: (value) => { current = withHub(value); } });
  withHub(current);
}
