/** Which words of two texts are the same. */

/**
 * Compares two texts word by word, by their longest common row of words.
 * @param {string} before
 * @param {string} after
 * @returns {{before: Run[], after: Run[], same: boolean}} the runs of each text; put together they are the text.
 * @typedef {{text: string, same: boolean}} Run
 */
export function compare(before, after) {
  const [one, other] = [words(before), words(after)];
  const lengths = common(one, other);
  const [left, right] = [[], []];
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) {
      add(left, one[i++], true);
      add(right, other[j++], true);
    } else if (j === other.length || (i < one.length && lengths[i + 1][j] >= lengths[i][j + 1])) {
      add(left, one[i++], false);
    } else {
      add(right, other[j++], false);
    }
  }
  return { before: left, after: right, same: before === after };
}

function words(text) {
  return text.match(/\S+/g) ?? [];
}

/** For each pair of places, how many words the rests of both have in common. */
function common(one, other) {
  const lengths = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      const same = one[i] === other[j];
      lengths[i][j] = same ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}

function add(runs, word, same) {
  const last = runs.at(-1);
  if (last && last.same === same) last.text += ` ${word}`;
  else runs.push({ text: word, same });
}
