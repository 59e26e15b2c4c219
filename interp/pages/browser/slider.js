// The slider over the checkpoints: a native range input on a small chart of the run, with play, keys and deep links.
(() => {
  const THUMB = 18; // the width of the handle, as in style.css: the chart's ends lie where its middle can go
  const PER_SECOND = 12;

  const drawTimeline = (canvas, run) => {
    const width = canvas.clientWidth, height = canvas.clientHeight, last = run.steps.length - 1;
    if (!width) return;
    const context = interp.prepare(canvas, width, height);
    const x = (index) => THUMB / 2 + (last ? index / last : 0.5) * (width - THUMB);
    const place = (step) => {
      const right = run.steps.findIndex((saved) => saved >= step);
      if (right < 0) return last;
      if (right === 0) return 0;
      return right - (run.steps[right] - step) / (run.steps[right] - run.steps[right - 1]);
    };
    run.phases.forEach((phase, index) => {
      const [from, to] = [x(place(phase.start)), x(place(phase.end))];
      context.fillStyle = interp.color(`phase-${index}`);
      context.fillRect(from, 0, to - from, height);
      if (to - from > 8 * phase.name.length * 0.72) interp.write(context, phase.name, (from + to) / 2, 11, { align: "center", size: 10 });
    });
    for (const [name, hex] of [["train_accuracy", "#0072B2"], ["test_accuracy", "#D55E00"]]) {
      const values = run.scalars[name];
      const y = (value) => (value === null ? NaN : height - 5 - value * (height - 20));
      interp.line(context, values.map((value, index) => [x(index), y(value)]), interp.shade(hex), 1.8);
      if (!last && values[0] !== null) {
        context.fillStyle = interp.shade(hex);
        context.fillRect(x(0) - 2, y(values[0]) - 2, 4, 4);
      }
    }
  };

  // `place`: which of the page's sliders this is; keys move the one that has the focus, or the first. Each has its name in the address.
  interp.slider = (root, run, state, place = 0) => {
    const address = place ? `step${place + 1}` : "step";
    const range = root.querySelector("input[type=range]");
    const play = root.querySelector(".play");
    const pin = root.querySelector(".pin");
    const canvas = root.querySelector(".timeline");
    const shown = root.querySelector(".now");
    range.max = String(run.steps.length - 1);
    range.disabled = play.disabled = pin.disabled = run.steps.length < 2;
    let timer = null;
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.setAttribute("aria-pressed", "false");
      play.setAttribute("aria-label", "Play");
    };
    const start = () => {
      if (state.now.index === run.steps.length - 1) state.set({ index: 0 });
      play.setAttribute("aria-pressed", "true");
      play.setAttribute("aria-label", "Pause");
      // Who asks for less motion sees the same checkpoints as slow stills.
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const rate = calm ? 1 : Math.max(PER_SECOND, run.steps.length / 12);
      timer = setInterval(() => (state.now.index < run.steps.length - 1 ? state.set({ index: state.now.index + 1 }) : stop()), 1000 / rate);
    };
    play.addEventListener("click", () => (timer ? stop() : start()));
    range.addEventListener("input", () => {
      stop();
      state.set({ index: Number(range.value) });
    });
    pin.addEventListener("click", () => state.set({ pinned: state.now.pinned === null ? state.now.index : null }));
    // Space plays, p pins, the arrows step, wherever the focus is, unless it is on something that uses these keys itself.
    document.addEventListener("keydown", (event) => {
      const busy = event.target.closest?.("input:not([type=range]), select, textarea, summary, button, a, .js-plotly-plot");
      const mine = root.contains(event.target) || (!place && !event.target.closest?.(".explorer"));
      if (!mine || event.ctrlKey || event.metaKey || event.altKey || busy || !root.isConnected) return;
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === " ") timer ? stop() : start();
      else if (event.key === "p") pin.click();
      else if (by && event.target !== range) {
        stop();
        state.set({ index: state.now.index + by });
      } else return;
      event.preventDefault();
    });
    const follow = () => {
      const asked = new RegExp(`[#&]${address}=(-?\\d+)`).exec(location.hash);
      if (asked) state.set({ index: state.nearest(Number(asked[1])) });
    };
    addEventListener("hashchange", follow);
    let remembered = null, moved = false, last = null;
    state.listen((now) => {
      const said = `step ${interp.count(run.steps[now.index])}`;
      range.value = String(now.index);
      range.setAttribute("aria-valuetext", said);
      shown.textContent = said;
      pin.setAttribute("aria-pressed", String(now.pinned !== null));
      pin.textContent = now.pinned === null ? "Pin" : `Unpin ${interp.count(run.steps[now.pinned])}`;
      clearTimeout(remembered);
      // Browsers allow few changes of the address per second.
      const step = run.steps[now.index], keep = moved && last !== step;
      [moved, last] = [true, step];
      if (keep) remembered = setTimeout(() => {
        const others = location.hash.slice(1).split("&").filter((part) => /^step\d*=/.test(part) && !part.startsWith(`${address}=`));
        history.replaceState(null, "", `#${[...others, `${address}=${step}`].sort((one, other) => one.indexOf("=") - other.indexOf("=") || (one < other ? -1 : 1)).join("&")}`);
      }, 250);
    });
    const redraw = () => drawTimeline(canvas, run);
    new ResizeObserver(redraw).observe(canvas);
    follow();
    return { redraw, stop, start };
  };
})();
