// The plotly figures: drawn when they come into sight, in the colors of the theme. plotly itself is unpacked when the first one does.
(() => {
  let loading = null;
  const plotly = () => {
    loading = loading || interp.text(document.getElementById("plotly").textContent).then((source) => {
      const script = document.createElement("script");
      script.nonce = document.querySelector("script[nonce]").nonce;
      script.textContent = source;
      document.head.appendChild(script);
      return window.Plotly;
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
    if (layout.legend2) layout.legend2.bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: interp.color("paper"), bordercolor: line, font: { color: ink } };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(name)) layout[name] = { ...layout[name], gridcolor: line, linecolor: soft, tickcolor: soft };
    }
    return copy;
  };

  // A narrow screen has no room for the margins and legends of a wide one.
  const narrowed = (figure, width) => {
    if (width > 560) return figure;
    const layout = figure.layout;
    layout.annotations = (layout.annotations || []).filter((annotation) => annotation.name !== "phase");
    layout.margin = { ...layout.margin, l: 52, r: 8 };
    layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: -0.1, yanchor: "top" };
    return figure;
  };

  interp.figures = (onFigure) => {
    const drawn = new Map();
    const draw = async (place) => {
      const library = await plotly();
      const config = JSON.parse(document.getElementById("config").textContent);
      const source = place.source || (place.source = JSON.parse(await interp.text(document.getElementById(`figure-${place.dataset.figure}`).textContent)));
      const figure = narrowed(themed(source), place.clientWidth);
      await library.react(place, figure.data, figure.layout, config);
      place.dataset.drawn = interp.isDark() ? "dark" : "light";
      if (!drawn.has(place)) {
        drawn.set(place, true);
        onFigure(place, library);
      }
    };
    const watcher = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        draw(target);
      }
    }, { rootMargin: "300px" });
    for (const place of document.querySelectorAll("[data-figure]")) {
      place.style.minHeight = `${place.dataset.height}px`; // so that what is below does not move when it is drawn
      watcher.observe(place);
    }
    return { redraw: () => Promise.all([...drawn.keys()].map(draw)), drawAll: () => Promise.all([...document.querySelectorAll("[data-figure]")].map(draw)) };
  };
})();
