// The plotly figures, in the colors of the theme: drawn when they come near, or one by one while nobody does anything. plotly takes
// seconds to start, during which nothing else can happen, so it waits for that too.
(() => {
  let loading = null;
  const plotly = () => {
    loading = loading || interp.text(document.getElementById("plotly").textContent).then((source) => {
      const script = document.createElement("script");
      script.nonce = document.querySelector("script[nonce]").nonce;
      script.src = URL.createObjectURL(new Blob([source], { type: "text/javascript" })); // parsed beside the page, unlike text in it
      return new Promise((done) => {
        script.addEventListener("load", () => done(window.Plotly));
        document.head.appendChild(script);
      });
    });
    return loading;
  };

  const themed = (figure) => {
    const [ink, soft, line] = ["ink", "soft", "line"].map(interp.color);
    const copy = structuredClone(figure);
    const walk = (value) => {
      for (const [key, inner] of Object.entries(value)) {
        if (typeof inner === "string") value[key] = interp.shade(inner);
        else if (inner && typeof inner === "object" && !ArrayBuffer.isView(inner)) walk(inner);
      }
    };
    if (interp.isDark()) walk(copy.data);
    if (interp.isDark()) walk(copy.layout.shapes || []);
    const layout = copy.layout;
    Object.assign(layout, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
    layout.font = { ...layout.font, color: ink };
    layout.legend = { ...layout.legend, bgcolor: "rgba(0,0,0,0)" };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)" };
    if (layout.legend2) layout.legend2.bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: interp.color("paper"), bordercolor: line, font: { color: ink } };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(name)) layout[name] = { ...layout[name], gridcolor: line, linecolor: soft, tickcolor: soft };
    }
    return copy;
  };

  const NARROW = 560; // below it, no room for panels side by side

  // Done when the page has been left alone for a while: no hand on it, nothing playing. Longer before plotly starts, which takes longest.
  const STARTING = 3000, DRAWING = 800;
  let touched = performance.now();
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchstart", "input"]) {
    addEventListener(kind, () => (touched = performance.now()), { capture: true, passive: true });
  }
  const idle = window.requestIdleCallback || ((done) => setTimeout(done, 50));
  const quiet = (long) =>
    new Promise((done) => {
      const look = () => {
        const playing = document.querySelector(".play[aria-pressed=true]");
        const rest = playing ? long : touched + long - performance.now();
        rest > 0 ? setTimeout(look, rest) : idle(done);
      };
      look();
    });

  interp.figures = () => {
    const places = [...document.querySelectorAll("[data-figure]")];
    const begun = new Map();
    const render = async (place) => {
      const library = await plotly();
      const config = JSON.parse(document.getElementById("config").textContent);
      const packed = document.getElementById(`figure-${place.dataset.figure}`).textContent;
      const source = place.source || (place.source = JSON.parse(await interp.text(packed)));
      const wide = themed(source), width = place.clientWidth;
      const figure = width < NARROW ? interp.stacked(wide, width) : wide;
      place.style.minHeight = `${figure.layout.height}px`;
      await library.react(place, figure.data, figure.layout, config);
      place.dataset.drawn = interp.isDark() ? "dark" : "light";
    };
    const draw = (place) => {
      if (!begun.has(place)) begun.set(place, render(place));
      return begun.get(place);
    };
    const watcher = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        draw(target);
      }
    }, { rootMargin: "400px" });
    for (const place of places) {
      place.style.minHeight = `${place.dataset.height}px`; // so that what is below does not move when it is drawn
      watcher.observe(place);
    }
    (async () => {
      for (const place of places) {
        await quiet(loading ? DRAWING : STARTING);
        if (place.clientWidth) await draw(place);
      }
    })();
    // Paper is as wide as it is: what was drawn wider is shown smaller.
    const PAPER = 680;
    addEventListener("beforeprint", () => {
      for (const place of places) if (place.clientWidth > PAPER) place.style.zoom = String(PAPER / place.clientWidth);
    });
    addEventListener("afterprint", () => places.forEach((place) => (place.style.zoom = "")));
    return { redraw: () => Promise.all([...begun.keys()].map(render)) };
  };
})();
