// A panel: one drawing of one checkpoint, or of two side by side when one is pinned. Hovering tells the numbers, a click picks out.
(() => {
  let tip = null;
  const hideTip = () => tip && (tip.hidden = true);
  const showTip = (event, text) => {
    tip = tip || document.body.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 6))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
  };

  const element = (name, className, parent) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    return parent.appendChild(made);
  };

  // `spec`: title, note (one line under it), span (columns of twelve), height(width, run), draw(context, view) → at(x, y) → {text, pick},
  // says(view): the drawing in words; where it has any, controls(place, state, run), and limits(run, arrays): what its axes and colors span
  // over all steps. A view: run, arrays, index, now, width, height.
  interp.panel = (grid, run, arrays, state, spec) => {
    const figure = element("figure", `panel span-${spec.span}`, grid);
    figure.dataset.panel = spec.name;
    const caption = element("figcaption", "", figure);
    element("h3", "", caption).textContent = spec.title;
    const note = element("p", "note", caption);
    const controls = element("div", "controls", caption);
    const pair = element("div", "pair", figure);
    const sides = [0, 1].map(() => {
      const side = element("div", "side", pair);
      const label = element("p", "which", side);
      const canvas = element("canvas", "", side);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", spec.title);
      return { side, label, canvas, width: 0, at: () => null };
    });
    // What is unchanged is not written: each change makes the browser lay out the page anew.
    const say = (place, text) => place.textContent === text || (place.textContent = text);
    for (const one of sides) {
      const under = (event) => {
        const box = one.canvas.getBoundingClientRect();
        return one.at(event.clientX - box.left, event.clientY - box.top);
      };
      one.canvas.addEventListener("pointermove", (event) => {
        const found = under(event);
        one.canvas.style.cursor = found?.pick ? "pointer" : "default";
        found ? showTip(event, found.text) : hideTip();
      });
      one.canvas.addEventListener("pointerleave", hideTip);
      one.canvas.addEventListener("click", (event) => {
        const found = under(event);
        if (found?.pick) state.pick(found.pick);
      });
    }

    // Out of sight nothing is drawn; what came out of date there is drawn when it comes into sight.
    let inSight = false, outOfDate = true;
    const draw = (anyhow) => {
      outOfDate = !inSight && anyhow !== true;
      if (outOfDate) return;
      const now = state.now;
      const shown = now.pinned === null ? [now.index] : [now.pinned, now.index];
      say(note, typeof spec.note === "function" ? spec.note(run, arrays, now) : spec.note);
      sides[1].side.hidden = shown.length === 1;
      figure.dataset.step = run.steps[now.index];
      sides.slice(0, shown.length).forEach((one, place) => {
        const index = shown[place], width = one.width;
        if (!width) return;
        const height = spec.height(width, run, arrays);
        const view = { run, arrays, index, now, width, height };
        const step = `step ${interp.count(run.steps[index])}`;
        say(one.label, shown.length === 1 ? "" : place ? `now, ${step}` : `pinned, ${step}`);
        const context = interp.prepare(one.canvas, width, height);
        one.at = spec.draw(context, view) || (() => null);
        one.canvas.setAttribute("aria-label", `${spec.title}, ${step}. ${spec.says ? spec.says(view) : ""}`);
      });
    };
    if (spec.controls) spec.controls(controls, state, run);
    const resized = new ResizeObserver((entries) => {
      for (const entry of entries) sides.find((one) => one.side === entry.target).width = entry.contentRect.width;
      draw();
    });
    for (const one of sides) resized.observe(one.side);
    new IntersectionObserver(([entry]) => {
      inSight = entry.isIntersecting;
      if (inSight && outOfDate) draw();
    }, { rootMargin: "150px" }).observe(figure);
    state.listen(draw);
    return { draw, figure };
  };
  interp.panels = [];
  Object.assign(interp, { showTip, hideTip });
})();
