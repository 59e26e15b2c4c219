// The numbers of the whole network at the step shown, exact, with those of the pinned step before them; and the choice of what is picked.
(() => {
  const SHOWN = [
    ["train_accuracy", "train accuracy", (value) => interp.percent(value)],
    ["test_accuracy", "test accuracy", (value) => interp.percent(value)],
    ["train_loss", "train loss", (value) => interp.number(value)],
    ["test_loss", "test loss", (value) => interp.number(value)],
    ["restricted_all", "restricted loss", (value) => interp.number(value)],
    ["excluded_train", "excluded loss", (value) => interp.number(value)],
    ["l2", "weight norm", (value) => interp.number(value, 4)],
    ["gini_embedding", "Gini of W_E", (value) => interp.number(value)],
    ["periodic", "periodic neurons", (value, run) => `${interp.number(value)} of ${run.neurons.length}`],
  ];

  interp.readouts = (root, run, state) => {
    const list = root.querySelector(".readouts");
    const places = SHOWN.map(([name, label, said]) => {
      const box = list.appendChild(document.createElement("div"));
      box.appendChild(document.createElement("dt")).textContent = label;
      const value = box.appendChild(document.createElement("dd"));
      value.dataset.scalar = name;
      return () => {
        const { index, pinned } = state.now;
        const before = pinned === null ? "" : `${said(run.scalars[name][pinned], run)} → `;
        value.textContent = before + said(run.scalars[name][index], run);
      };
    });
    state.listen(() => places.forEach((place) => place()));
  };

  // What a click on a panel picks can be picked from the keyboard as well.
  interp.choices = (root, run, arrays, state) => {
    const place = root.querySelector(".choices");
    const offer = (name, label, values) => {
      const outer = place.appendChild(document.createElement("label"));
      outer.append(`${label} `);
      const select = outer.appendChild(document.createElement("select"));
      select.append(new Option("all", ""));
      for (const value of values) select.append(new Option(String(value), String(value)));
      select.addEventListener("change", () => {
        const nothing = { frequency: null, neuron: null, head: null };
        state.set({ ...nothing, [name]: select.value === "" ? null : Number(select.value) });
      });
      state.listen((now) => {
        const value = now[name] === null ? "" : String(now[name]);
        if (select.value !== value) select.value = value;
      });
    };
    const K = arrays.share.shape[2];
    offer("frequency", "Frequency", Array.from({ length: K }, (_, k) => k + 1));
    offer("neuron", "Neuron", [...run.neurons].sort((one, other) => one - other));
    if (arrays.attention) offer("head", "Head", Array.from({ length: arrays.attention.shape[1] }, (_, head) => head));
  };
})();
