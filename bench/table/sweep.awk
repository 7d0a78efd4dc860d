# The table of bench/sweep: its sweep.jsonl. Used with rows.awk.
BEGIN { printf "%-22s %-36s %9s %9s %7s  %s\n", "variant", "case", "TFLOP/s", "base", "ratio", "spills, stores/loads; remarks" }
{
  remark = value("spill_stores") == "" ? "-" : value("spill_stores") "/" value("spill_loads")
  if (value("serialised") == "true") remark = remark ", wgmma serialised"
  if (value("status") != "ok") remark = remark ", " value("status")
  text = ""
  if (value("seq_len") != "")
    text = sprintf("D=%s %s %s keys %s%s", value("head_dim"), value("dtype"), value("seq_len"), value("keys"),
                   value("page_size") > 0 ? ", pages of " value("page_size") : "")
  printf "%-22s %-36s %9s %9s %7s  %s\n", value("name"), text, number("%.0f", value("tflops")), number("%.0f", value("base_tflops")),
         number("%.3f", value("ratio")), remark
}
