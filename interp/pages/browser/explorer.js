// One run: its slider, its numbers, its panels and its circuit, inside one element of the page. Several can stand side by side.
(() => {
  const ORDER = ["forces", "neuron_map", "progress", "two_circuits", "circles", "neuron_lines", "spectra", "logits", "attention", "norms"];

  // The data of a run, unpacked once, however many explorers show it.
  const loaded = new Map();
  const load = (name) => {
    if (!loaded.has(name)) {
      const run = JSON.parse(document.getElementById(name).textContent);
      loaded.set(name, interp.arrays(run.arrays).then((arrays) => {
        delete run.arrays;
        const shown = ORDER.map((name) => interp.panels.find((spec) => spec.name === name)).filter((spec) => (!spec.needs || arrays[spec.needs]) && (!spec.shows || spec.shows(run)));
        // What the axes and color scales of all steps span: `name` → [low, high].
        run.limits = Object.assign({}, ...shown.map((spec) => spec.limits?.(run, arrays)));
        return { run, arrays, shown };
      }));
    }
    return loaded.get(name);
  };

  // `place`: which of how many explorers this is, from 0.
  interp.explorer = async (root, place) => {
    const { run, arrays, shown } = await load(root.dataset.run);
    const state = interp.state(run);
    // On the page of one run why it happened stands with its curves.
    const grid = root.querySelector(".explore .panels"), above = root.querySelector(".why");
    interp.readouts(root, run, state);
    interp.choices(root, run, arrays, state);
    state.listen((now) => root.classList.toggle("pinned", now.pinned !== null));
    state.set({ index: root.dataset.step ? state.nearest(Number(root.dataset.step)) : run.opens_at });
    const slider = interp.slider(root, run, state, place);
    const panels = ORDER.map((name, order) => {
      const spec = shown.find((one) => one.name === name);
      const panel = spec && interp.panel((name === "forces" && above) || grid, run, arrays, state, spec);
      if (panel) panel.figure.style.order = String(order + 3);
      if (panel && root.dataset.label) panel.figure.querySelector("h3").dataset.of = root.dataset.label;
      return panel;
    });
    panels.push(interp.circuit(root, run, arrays, state));
    state.tell();
    const redraw = () => {
      slider.redraw();
      state.tell();
    };
    return { root, run, arrays, state, panels, redraw, play: slider.start, stop: slider.stop };
  };
})();
