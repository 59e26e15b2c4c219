// Arrays of the page: base64 → deflate → levels or numbers (interp/pages/encoding.py writes them).
"use strict";
const interp = {};
(() => {
  const KINDS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array, int32: Int32Array };

  const unpack = async (text) => {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  };

  const text = async (packed) => new TextDecoder().decode(await unpack(packed));

  // Levels are stored as differences along the first axis; unsigned arithmetic undoes them modulo 256 or 65,536.
  const cumulate = (levels, width) => {
    for (let i = width; i < levels.length; i++) levels[i] += levels[i - width];
    return levels;
  };

  // An array whose rows are taken one checkpoint at a time: `row(index)` gives numbers, NaN where unknown. The last rows are kept.
  const array = async (block) => {
    const values = new KINDS[block.type](await unpack(block.data));
    const shape = block.shape;
    const width = shape.slice(1).reduce((product, size) => product * size, 1);
    if (!block.type.startsWith("uint")) {
      return { shape, width, row: (index) => values.subarray(index * width, (index + 1) * width), error: 0 };
    }
    cumulate(values, width);
    const [low, high] = await Promise.all([block.low, block.high].map(async (limit) => new Float32Array(await unpack(limit))));
    const top = block.type === "uint8" ? 254 : 65534;
    const perScale = shape.slice(block.scales).reduce((product, size) => product * size, 1);
    const kept = new Map();
    const row = (index) => {
      if (kept.has(index)) return kept.get(index);
      const numbers = new Float32Array(width);
      for (let i = 0, at = index * width; i < width; i++, at++) {
        const scale = perScale === values.length ? 0 : Math.floor(at / perScale);
        numbers[i] = values[at] > top ? NaN : low[scale] + (values[at] / top) * (high[scale] - low[scale]);
      }
      if (kept.size > 3) kept.delete(kept.keys().next().value);
      kept.set(index, numbers);
      return numbers;
    };
    const limits = (scale = 0) => [low[scale], high[scale]];
    return { shape, width, row, limits, error: 0.5 / top };
  };

  const arrays = async (blocks) => {
    const names = Object.keys(blocks);
    const decoded = await Promise.all(names.map((name) => array(blocks[name])));
    return Object.fromEntries(names.map((name, index) => [name, decoded[index]]));
  };

  // From 0 to the largest value of an array over all steps.
  const span = (run, array) => {
    let most = 1e-12;
    for (let index = 0; index < run.steps.length; index++) for (const value of array.row(index)) if (value > most) most = value;
    return [0, most];
  };

  Object.assign(interp, { text, arrays, span });
})();
