# Of one variant of bench/sweep (-v head: what its rows begin with): a row a case, medians over the rounds. Used with rows.awk.
function median(list, count,  i, j, x) {
  for (i = 2; i <= count; i++)
    for (j = i; j > 1 && list[j - 1] > list[j]; j--) { x = list[j]; list[j] = list[j - 1]; list[j - 1] = x }
  return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
}
measured() {
  key = sprintf("\"seq_len\": %s, \"head_dim\": %s, \"dtype\": \"%s\", \"keys\": \"%s\", \"page_size\": %s", value("seq_len"), value("head_dim"),
                value("dtype"), value("keys"), value("page_size"))
  if (!(key in seen)) { seen[key]; order[++cases] = key }
  rate[value("who"), key, value("round")] = value("flops_per_s") / 1e12
  if (value("round") > rounds) rounds = value("round")
}
END {
  for (c = 1; c <= cases; c++) {
    for (n = 0; n < rounds; n++) {
      base[n + 1] = rate["base", order[c], n + 1]
      variant[n + 1] = rate["variant", order[c], n + 1]
      ratio[n + 1] = base[n + 1] > 0 ? variant[n + 1] / base[n + 1] : 0
    }
    printf "{%s%s, \"rounds\": %d, \"ratio\": %.4f, \"tflops\": %.1f, \"base_tflops\": %.1f, \"status\": \"ok\"}\n", head, order[c], rounds,
           median(ratio, rounds), median(variant, rounds), median(base, rounds)
  }
  if (!cases) printf "{%s\"status\": \"not measured\"}\n", head
}
