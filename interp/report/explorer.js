// One run: its slider, its numbers, its panels and its circuit, inside one element of the page. Several can stand on one page, linked.
(() => {
  const ORDER = ["neuron_map", "progress", "two_circuits", "circles", "neuron_lines", "spectra", "logits", "attention", "norms"];

  interp.explorer = async (root, run) => {
    const arrays = await interp.arrays(run.arrays);
    delete run.arrays;
    const state = interp.state(run);
    const grid = root.querySelector(".panels");
    const panels = ORDER.map((name) => interp.panels.find((spec) => spec.name === name))
      .filter((spec) => !spec.needs || arrays[spec.needs])
      .map((spec) => interp.panel(grid, run, arrays, state, spec));
    interp.readouts(root, run, state);
    interp.choices(root, run, arrays, state);
    state.listen((now) => root.classList.toggle("pinned", now.pinned !== null));
    const slider = interp.slider(root, run, state);
    interp.circuit(root, run, arrays, state);
    state.tell();
    const redraw = () => {
      slider.redraw();
      state.tell();
    };
    return { run, arrays, state, panels, redraw, play: slider.start, stop: slider.stop };
  };

  // Explorers of several runs go to the step nearest to that of the one that was moved, and do not answer each other.
  interp.link = (explorers) => {
    const shown = new Map();
    for (const one of explorers) {
      one.state.listen((now) => {
        if (shown.get(one) === now.index) return;
        shown.set(one, now.index);
        for (const other of explorers.filter((other) => other !== one)) {
          const index = other.state.nearest(one.run.steps[now.index]);
          shown.set(other, index);
          other.state.set({ index });
        }
      });
    }
  };
})();
