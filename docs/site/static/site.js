// What scrolls can be scrolled with the keyboard.
function reachable() {
  for (const box of document.querySelectorAll("div.math, pre, .pst-scrollable-table-container, mjx-container[display='true']")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
addEventListener("load", () => { window.MathJax?.startup?.promise ? MathJax.startup.promise.then(reachable) : reachable(); });
