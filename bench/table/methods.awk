# Time of every method against plain RoPE, beside the goals: awk -f rows.awk -f methods.awk bench.jsonl
function goal(phase, name, trained) {
  if (name == "rope") return phase == "prefill" ? "<= 1.02" : "<= 1.03"
  if (name == "rerope" && phase == "prefill") return trained == 1024 ? "<= 1.05" : "" # of a window of 512
  if (name == "rerope") return "<= 1.00"
  return name == "alibi" && phase == "prefill" ? "<= 1.05" : ""
}
function with_goal(phase, name, trained) { return goal(phase, name, trained) == "" ? "" : " (goal " goal(phase, name, trained) ")" }

measured() && value("method") != "default" && !chunk() {
  group = value("phase") SUBSEP value("seq_len") SUBSEP value("keys") SUBSEP value("trained_len")
  if (!(group in groups)) { groups[group] = 1; group_order[++num_groups] = group }
  family = value("family")
  ratio = value("ratio_to_plain") + 0
  count[group, family]++
  if (!((group, family) in slowest) || ratio > slowest[group, family]) { slowest[group, family] = ratio; slow_name[group, family] = value("method") }
  if (!((group, family) in fastest) || ratio < fastest[group, family]) { fastest[group, family] = ratio; fast_name[group, family] = value("method") }
  if (family == "remap" || family == "bias")
    named[group] = named[group] sprintf("  %s %.2f%s", value("method"), ratio, with_goal(value("phase"), value("method"), value("trained_len")))
}

END {
  families = split("rope remap bias logits mask mix", family_name, " ")
  for (g = 1; g <= num_groups; g++) {
    split(group_order[g], part, SUBSEP)
    printf "\nMethods, %s at %d keys%s%s: time against plain RoPE, from the fastest to the slowest of a family\n", part[1], part[2],
           part[3] == "" ? "" : ", " part[3], part[4] == "" ? "" : ", trained on " part[4]
    for (f = 1; f <= families; f++) {
      id = group_order[g] SUBSEP family_name[f]
      if (id in slowest)
        printf "  %-7s %3d methods  %5.2f %-28s %5.2f %s%s\n", family_name[f], count[id], fastest[id], fast_name[id], slowest[id], slow_name[id],
               with_goal(part[1], family_name[f], part[4])
    }
    if (named[group_order[g]] != "") print "  each:" named[group_order[g]]
  }
}
