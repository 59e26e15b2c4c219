// Bring the page to life.
(async () => {
  let figures = null;
  const explorers = (interp.explorers = []);
  interp.followTheme(() => {
    figures?.redraw();
    for (const explorer of explorers) explorer.redraw();
  });
  for (const root of document.querySelectorAll(".explorer")) {
    const run = JSON.parse(root.querySelector("script.run").textContent);
    explorers.push(await interp.explorer(root, run));
  }
  interp.link(explorers);
  document.documentElement.dataset.ready = "yes";
  figures = interp.figures((place, library) => {
    if (!place.hasAttribute("data-headline")) return;
    // A line at the step shown, over the figure: moving it costs nothing, unlike drawing the figure anew.
    const cursor = place.querySelector(".svg-container").appendChild(Object.assign(document.createElement("div"), { className: "cursor" }));
    const state = explorers[0]?.state, run = explorers[0]?.run;
    const move = () => {
      const layout = place._fullLayout, axis = layout.xaxis;
      const at = state ? axis.l2p(run.steps[state.now.index]) : NaN;
      cursor.hidden = !(at >= 0 && at <= axis._length);
      cursor.style.left = `${axis._offset + at - 1}px`;
      cursor.style.top = `${layout._size.t}px`;
      cursor.style.height = `${layout._size.h}px`;
    };
    state?.listen(move);
    place.on("plotly_afterplot", move);
    place.on("plotly_click", (event) => state?.set({ index: state.nearest(event.points[0].x) }));
    move();
  });
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
  });
})();
