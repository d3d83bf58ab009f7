// Draws the charts: each specification is in a script element next to its place. A chart in a closed <details> is drawn
// when that opens.
"use strict";
(() => {
  const failed = (node, error) => {
    node.textContent = "This chart could not be drawn: " + error.message;
    console.error(error);
  };
  const draw = async (node) => {
    const spec = JSON.parse(document.getElementById(node.dataset.spec).textContent);
    spec.description = node.getAttribute("aria-label");
    const options = { actions: false, renderer: "svg", tooltip: { disableDefaultStyle: true }, defaultStyle: false };
    try {
      await window.vegaEmbed(node, spec, options);
    } catch (error) {
      failed(node, error);
    }
    node.dataset.drawn = "yes";
  };
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          seen.unobserve(target);
          draw(target);
        }
      }
    },
    { rootMargin: "100000px" },
  );
  for (const node of document.querySelectorAll(".chart")) seen.observe(node);
})();
