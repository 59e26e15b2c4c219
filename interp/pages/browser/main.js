// Bring the page to life: first what is drawn from plain numbers, then what has to be unpacked, plotly last.
(async () => {
  let figures = null;
  const headlines = new Map(), explorers = (interp.explorers = []);
  interp.followTheme(() => {
    for (const headline of headlines.values()) headline.draw();
    for (const explorer of explorers) explorer.redraw();
    figures?.redraw();
  });
  const roots = [...document.querySelectorAll(".explorer")];
  for (const root of roots) if (root.querySelector("[data-headline]")) headlines.set(root, interp.headline(root));
  // Curves without checkpoints have no slider.
  for (const root of document.querySelectorAll(".curves")) headlines.set(root, interp.headline(root));
  for (const [place, root] of roots.entries()) {
    const explorer = await interp.explorer(root, place);
    explorers.push(explorer);
    headlines.get(root)?.follow(explorer);
  }
  if (explorers.length > 1) {
    interp.shareLimits(explorers);
    interp.link(explorers, document.querySelector(".together"));
  }
  document.documentElement.dataset.ready = "yes";
  figures = interp.figures();
  // A link to a figure opens what it is folded into.
  const open = () => {
    const target = /^#[\w-]+$/.test(location.hash) ? document.getElementById(location.hash.slice(1)) : null;
    target?.querySelector("details.evidence")?.setAttribute("open", "");
    target?.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const { panels } of explorers) for (const panel of panels) panel?.draw(true); // also those that nobody has seen yet
  });
})();
