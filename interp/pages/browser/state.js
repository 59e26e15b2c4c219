// What is shown: which checkpoint, which one is pinned beside it, and what is picked out. Panels listen; nothing else holds state.
(() => {
  interp.state = (run) => {
    const listeners = [];
    const now = { index: run.steps.length - 1, pinned: null, frequency: null, neuron: null, head: null, ofClass: null };
    let asked = false;
    const tell = () => {
      if (asked) return;
      asked = true;
      // One drawing per frame of the screen, however fast the slider is moved.
      requestAnimationFrame(() => {
        asked = false;
        for (const listener of listeners) listener(now);
      });
    };
    const set = (changes) => {
      const index = Math.min(Math.max(changes.index ?? now.index, 0), run.steps.length - 1);
      const different = index !== now.index || Object.keys(changes).some((name) => name !== "index" && changes[name] !== now[name]);
      Object.assign(now, changes, { index });
      if (different) tell();
    };
    // The same thing picked twice is let go.
    const pick = (choice) => {
      const same = Object.entries(choice).every(([name, value]) => now[name] === value);
      const nothing = { frequency: null, neuron: null, head: null };
      set(same ? nothing : { ...nothing, ...choice });
    };
    const nearest = (step) => {
      let best = 0;
      for (let i = 1; i < run.steps.length; i++) if (Math.abs(run.steps[i] - step) < Math.abs(run.steps[best] - step)) best = i;
      return best;
    };
    return { now, set, pick, tell, nearest, listen: (listener) => listeners.push(listener) };
  };
})();
