// Several explorers on one page: the same axes and color scales, and sliders that move together.
(() => {
  // Where a step lies in a run, as a number that means the same in another run; and back.
  const MEASURES = {
    step: { says: "at the same step", to: (run, step) => step, from: (run, step) => step },
    share: {
      says: "at the same share of training",
      to: ({ steps }, step) => (step - steps[0]) / Math.max(steps.at(-1) - steps[0], 1),
      from: ({ steps }, share) => steps[0] + share * (steps.at(-1) - steps[0]),
    },
    phase: { says: "at the same point of its phase", to: (run, step) => along(borders(run), step), from: (run, place) => between(borders(run), place) },
  };
  const borders = ({ steps, phases }) => [steps[0], ...phases.slice(0, 3).map(({ end }) => end), steps.at(-1)];
  const along = (borders, step) => {
    let index = borders.findIndex((border, place) => place > 0 && step <= border && border > borders[place - 1]) - 1;
    if (index < 0) index = borders.length - 2;
    return index + (step - borders[index]) / Math.max(borders[index + 1] - borders[index], 1e-9);
  };
  const between = (borders, place) => {
    const index = Math.min(Math.floor(place), borders.length - 2);
    return borders[index] + (place - index) * (borders[index + 1] - borders[index]);
  };

  interp.shareLimits = (explorers) => {
    const runs = [...new Set(explorers.map(({ run }) => run))];
    const shared = {};
    for (const { limits } of runs) {
      for (const [name, [low, high]] of Object.entries(limits)) {
        shared[name] = name in shared ? [Math.min(low, shared[name][0]), Math.max(high, shared[name][1])] : [low, high];
      }
    }
    for (const run of runs) Object.assign(run, { limits: shared, isOneOfSeveral: true });
    // Panels stand in rows: where one side has none, its place is kept.
    explorers.forEach(({ panels, root }) => panels.forEach((panel, order) => {
      if (panel || !explorers.some((other) => other.panels[order])) return;
      const empty = root.querySelector(".panels").appendChild(document.createElement("figure"));
      empty.className = "panel empty";
      empty.textContent = "This network has none.";
      empty.style.order = String(order + 3);
    }));
  };

  // `place`: a checkbox and a choice of what "together" means. Whoever was moved leads; who follows does not answer.
  interp.link = (explorers, place) => {
    const [box, choice] = [place.querySelector("input"), place.querySelector("select")];
    const runs = explorers.map(({ run }) => run);
    const known = (measure) => measure !== "phase" || runs.every(({ phases }) => phases.length >= 3);
    for (const [name, { says }] of Object.entries(MEASURES)) if (known(name)) choice.append(new Option(says, name));
    const ends = runs.map(({ steps }) => steps.at(-1));
    // Runs of one length stand at one step; others where they are equally far.
    choice.value = Math.max(...ends) <= 1.1 * Math.min(...ends) ? "step" : known("phase") ? "phase" : "share";
    box.checked = new Set(runs).size > 1; // two checkpoints of one run, moved together, would be the same
    const shown = new Map(explorers.map((one) => [one, one.state.now.index]));
    const lead = (one) => {
      const { to, from } = MEASURES[choice.value];
      const at = to(one.run, one.run.steps[one.state.now.index]);
      for (const other of explorers.filter((other) => other !== one)) {
        const index = other.state.nearest(from(other.run, at));
        shown.set(other, index);
        other.state.set({ index });
      }
    };
    for (const one of explorers) {
      one.state.listen(({ index }) => {
        if (shown.get(one) === index) return;
        shown.set(one, index);
        if (box.checked) lead(one);
      });
    }
    box.addEventListener("change", () => box.checked && lead(explorers[0]));
    choice.addEventListener("change", () => box.checked && lead(explorers[0]));
  };
})();
