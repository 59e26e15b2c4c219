// Attention: where every head looks, as a map over both inputs.
(() => {
  const layout = (width, heads) => {
    const columns = width < 430 ? Math.min(2, heads) : Math.min(heads, 4);
    const size = Math.min(width / columns, 240);
    return { columns, size, rows: Math.ceil(heads / columns) };
  };
  interp.panels.push({
    name: "attention",
    needs: "attention",
    title: "Attention",
    note: (run, arrays) => {
      const side = arrays.attention.shape[2];
      const cut = side < run.n ? `, the first ${side} of ${run.n} residues` : "";
      return `Attention from the last position to a, for every pair (a, b)${cut}; dark 0, bright 1. Below each head: the frequency that ` +
        "explains most of its variance over the inputs.";
    },
    span: 8,
    height: (width, run, arrays) => {
      const { size, rows } = layout(width, arrays.attention.shape[1]);
      return rows * (size + 30);
    },
    draw: (context, { run, arrays, index, now, width }) => {
      const [, heads, side] = arrays.attention.shape;
      const attention = arrays.attention.row(index), explained = arrays.head_explained.row(index);
      const mean = arrays.head_mean.row(index), deviation = arrays.head_deviation.row(index);
      const K = arrays.head_explained.shape[2], positions = arrays.head_mean.shape[2];
      const { columns, size } = layout(width, heads);
      const cells = Array.from({ length: heads }, (_, head) => {
        const [x0, y0] = [(head % columns) * size + 2, Math.floor(head / columns) * (size + 30) + 2];
        const inner = size - 10;
        // a runs to the right, b upward.
        const map = interp.image(side, side, interp.VIRIDIS, (x, y) => attention[(head * side + x) * side + (side - 1 - y)]);
        context.imageSmoothingEnabled = false;
        context.drawImage(map, x0, y0, inner, inner);
        let best = 0;
        for (let k = 1; k <= K; k++) if (!(explained[head * K + k - 1] <= (best ? explained[head * K + best - 1] : -1))) best = k;
        const share = best ? explained[head * K + best - 1] : NaN;
        const chosen = now.head === head || (now.frequency !== null && now.frequency === best);
        if (chosen) {
          context.strokeStyle = interp.color("mark");
          context.lineWidth = 2.5;
          context.strokeRect(x0 - 1, y0 - 1, inner + 2, inner + 2);
        }
        const hue = run.key.includes(best) ? interp.shade(run.colors[best]) : interp.color("soft");
        interp.write(context, `head ${head}`, x0, y0 + inner + 16, { color: "ink", weight: 600 });
        const words = share === share ? `k = ${best}, ${interp.percent(share, 0)}` : "constant";
        interp.write(context, words, x0 + inner, y0 + inner + 16, { align: "right", color: hue, weight: 600 });
        return { head, x0, y0, inner, best: share === share ? best : null, share };
      });
      return (x, y) => {
        const cell = cells.find((one) => x >= one.x0 && x < one.x0 + one.inner && y >= one.y0 && y < one.y0 + one.inner);
        if (!cell) return null;
        const a = Math.floor(((x - cell.x0) / cell.inner) * side), b = side - 1 - Math.floor(((y - cell.y0) / cell.inner) * side);
        const means = [..."ab="].slice(0, positions).map((token, at) => `${token} ${interp.number(mean[cell.head * positions + at])}`).join(", ");
        return {
          text: `head ${cell.head}, a = ${a}, b = ${b}: attention to a ${interp.number(attention[(cell.head * side + a) * side + b])}\n` +
            `mean attention: ${means}; standard deviation to a ${interp.number(deviation[cell.head])}\n` +
            (cell.best ? `best frequency ${cell.best}: ${interp.percent(cell.share)} of the variance` : "it does not depend on the inputs"),
          pick: { head: cell.head, frequency: cell.best },
        };
      };
    },
  });
})();
