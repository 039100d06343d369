// Dropout's mask of attention as bits: random.keep_mask's decisions, one bit an element.

// keep (rows, words): bit j % 32 of word j / 32 says whether element j of a row of `columns` stays.
// Element e = row * columns + j has half a word of the stream: half e % 8 of block e / 8, and stays
// if that is at least `threshold`. The stream begins at block `block` of `seed`; both count from
// base's, {seed, block}, if there is one. With is_causal the words behind row % L are left alone.
extern "C" __global__ void keep_bits(unsigned* keep, const unsigned long long* base,
                                     unsigned long long seed, unsigned long long block,
                                     unsigned long long threshold, long long rows, int words,
                                     int columns, int L, bool is_causal) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x, row = i / words;
  int first = (int)(i % words) * 32;
  if (row >= rows || first >= columns || (is_causal && first > row % L)) return;
  if (base) seed += base[0], block += base[1];
  long long e = row * columns + first;
  unsigned long long bits = 0;  // of five blocks, eight each, from the one that e is in
  int skip = (int)(e % 8);
#pragma unroll
  for (int n = 0; n < 5; n++) {
    if (n == 4 && !skip) break;
    Words w = philox(seed, block + e / 8 + n);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      unsigned half = (unsigned)(w.at[j / 2] >> (j % 2 * 32));
      bits |= (unsigned long long)(half >= threshold) << (n * 8 + j);
    }
  }
  keep[i] = (unsigned)(bits >> skip);
}
