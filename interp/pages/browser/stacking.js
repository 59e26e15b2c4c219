// A plotly figure of several panels on a narrow screen: the panels below each other, each with its title, its legend and its color bar.
(() => {
  const HEIGHT = 210, BELOW = 52, TITLE = 34, LINE = 19;
  const axisOf = (id) => `${id[0]}axis${id.slice(1)}`;
  const middle = ([from, to]) => (from + to) / 2;
  const near = (one, other) => Math.abs(one - other) < 0.03;

  // The panels in reading order: names of their axes and where they lie.
  const panelsOf = ({ data, layout }) => {
    const found = new Map();
    for (const trace of data) {
      const [x, y] = [trace.xaxis || "x", trace.yaxis || "y"].map(axisOf);
      if (!layout[x] || !layout[y]) continue;
      const one = found.get(x + y) || { x, y, across: layout[x].domain || [0, 1], up: layout[y].domain || [0, 1], traces: [] };
      one.traces.push(trace);
      found.set(x + y, one);
    }
    return [...found.values()].sort((one, other) => other.up[1] - one.up[1] || one.across[0] - other.across[0]);
  };

  // How many lines a horizontal legend takes: plotly puts its entries into columns as wide as the longest.
  const lines = (labels, width) => {
    const each = 52 + 7 * Math.max(...labels.map((label) => label.length));
    return Math.ceil(labels.length / Math.max(1, Math.floor(width / each)));
  };

  // The legends, each with the last panel that uses it and its number of lines; a trace that stands for nothing drawn counts as well.
  const legendsOf = ({ data, layout }, panels, width) => {
    const labels = new Map();
    for (const trace of data) {
      if (!trace.name || trace.showlegend === false || (data.length === 1 && !layout.showlegend)) continue;
      const name = trace.legend || "legend", host = panels.findLastIndex(({ traces }) => traces.includes(trace));
      const known = labels.get(name) || { host: 0, labels: [] };
      labels.set(name, { host: Math.max(known.host, host), labels: [...known.labels, trace.name] });
    }
    return [...labels].map(([name, { host, labels }]) => ({ name, host, high: LINE * lines(labels, width) + 10 }));
  };

  // How much further down words under a panel reach when they are too many to stand level, and so stand aslant.
  const aslant = ({ traces }, width) => {
    const words = [...new Set(traces.flatMap(({ x }) => (Array.isArray(x) ? x.filter((value) => typeof value === "string") : [])))];
    const longest = Math.max(0, ...words.map((word) => word.length));
    return words.length * (7 * longest + 8) > width ? Math.min(90, 8 + 5 * longest) : 0;
  };

  // A title in lines that fit.
  const wrapped = (text, width) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && 6.9 * (lines.at(-1).length + 1 + word.length) > width) lines.push(word);
      else lines.push(`${lines.pop()} ${word}`.trim());
    }
    return lines;
  };

  interp.stacked = (figure, width) => {
    const { layout } = figure, panels = panelsOf(figure), top = layout.title?.text ? layout.margin.t : 40;
    const bars = figure.data.some((trace) => trace.type === "heatmap" && trace.showscale !== false);
    layout.margin = { ...layout.margin, t: top, l: 58, r: bars ? 56 : 12, b: 8 };
    layout.annotations = (layout.annotations || []).filter(({ name }) => name !== "phase");
    const room = width - layout.margin.l - layout.margin.r, legends = layout.showlegend === false ? [] : legendsOf(figure, panels, room);
    const square = ({ x, y }) => layout[y].scaleanchor || layout[x].scaleanchor;
    const titled = (panel) => layout.annotations.find((one) => one.yref === "paper" && one.xref === "paper" && near(one.x, middle(panel.across)) && near(one.y, panel.up[1]));
    const titles = panels.map(titled), labels = panels.map(({ y }) => layout[y].title?.text);
    // In a grid only the first of a column has a title, and only the first of a row says what goes up.
    const first = (places, fits) => places.find((_, place) => fits(panels[place]));
    const texts = panels.map(({ across, up }, place) =>
      wrapped((titles[place]?.text ? titles[place] : first(titles, (one) => near(one.across[0], across[0]) && one.up[1] > up[1]))?.text || "", room));
    let down = 0;
    const places = panels.map((panel, place) => {
      const high = square(panel) ? room : HEIGHT, from = down + 16 * (texts[place].length - 1);
      const slope = aslant(panel, room);
      const under = legends.filter(({ host }) => host === place);
      down = from + high + slope + BELOW + under.reduce((sum, { high }) => sum + high, 0) + (place < panels.length - 1 ? TITLE : 0);
      return { from, to: from + high, slope, under };
    });
    const share = (pixels) => 1 - pixels / down;
    panels.forEach((panel, place) => {
      const { from, to, slope, under } = places[place];
      const text = texts[place].join("<br>"), look = titles[place] || titles.find(Boolean);
      if (text) layout.annotations.push({ ...look, text, x: 0, xanchor: "left", align: "left", y: share(from), yanchor: "bottom", moved: true });
      const says = labels[place] || first(labels, ({ up }) => near(up[1], panel.up[1]));
      Object.assign(layout[panel.x], { domain: [0, 1], automargin: false });
      if (slope) Object.assign(layout[panel.x], { tickangle: -45, title: { ...layout[panel.x].title, standoff: slope } });
      Object.assign(layout[panel.y], { domain: [Math.max(0, share(to)), share(from)], automargin: panel.traces.some(({ orientation }) => orientation === "h"), showticklabels: true });
      layout[panel.y].title = { ...layout[panel.y].title, text: says };
      let below = to + slope + BELOW;
      for (const { name, high } of under) {
        layout[name] = { ...layout[name], orientation: "h", x: 0, xanchor: "left", y: share(below), yanchor: "top", tracegroupgap: 0, title: { text: "" } };
        below += high;
      }
      for (const trace of panel.traces) {
        const bar = trace.coloraxis ? layout[trace.coloraxis]?.colorbar : trace.type === "heatmap" && trace.showscale !== false && (trace.colorbar ??= {});
        if (bar) Object.assign(bar, { len: (to - from) / down, y: share((from + to) / 2), yanchor: "middle", x: 1.01, xanchor: "left", thickness: 10 });
      }
    });
    layout.annotations = layout.annotations.filter((one) => one.moved || !titles.includes(one)).map(({ moved, ...one }) => one);
    layout.height = top + down + layout.margin.b;
    return figure;
  };
})();
