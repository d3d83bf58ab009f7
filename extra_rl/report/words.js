// Explained words, and tables in a narrow window: for every page.
"use strict";
// The meaning of a word of the glossary (.term), while it is pointed at, has the focus or was touched. Escape hides it.
(() => {
  const box = document.createElement("div");
  box.id = "tip";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let shown = null;
  const hide = () => {
    shown?.removeAttribute("aria-describedby");
    shown = null;
    box.hidden = true;
  };
  const show = (word) => {
    if (shown === word) return;
    hide();
    shown = word;
    box.textContent = word.dataset.tip;
    box.hidden = false;
    word.setAttribute("aria-describedby", "tip");
    move();
  };
  const move = () => {
    if (!shown) return;
    const place = shown.getBoundingClientRect();
    const margin = 8;
    const left = Math.min(place.left, document.documentElement.clientWidth - box.offsetWidth - margin);
    const below = place.bottom + margin;
    const above = place.top - box.offsetHeight - margin;
    box.style.left = `${Math.max(margin, left)}px`;
    box.style.top = `${below + box.offsetHeight > innerHeight && above > 0 ? above : below}px`;
  };
  const word = (event) => (event.target instanceof Element ? event.target.closest(".term") : null);
  document.addEventListener("pointerover", (event) => word(event) && show(word(event)));
  document.addEventListener("pointerout", (event) => {
    if (event.pointerType === "mouse" && word(event) && document.activeElement !== shown) hide();
  });
  document.addEventListener("focusin", (event) => (word(event) ? show(word(event)) : hide()));
  document.addEventListener("focusout", hide);
  document.addEventListener("click", (event) => (word(event) ? show(word(event)) : hide()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", move, { capture: true, passive: true });
})();

// In a narrow window each row of a table is a list of named values (page.css), named by the titles of the columns.
(() => {
  for (const table of document.querySelectorAll(".scroll table")) {
    const titles = [...table.querySelectorAll("thead th")].map((title) => title.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr:not(.regime)")) {
      [...row.cells].forEach((cell, place) => place && cell.setAttribute("data-title", titles[place] ?? ""));
    }
    table.classList.add("named");
  }
})();
