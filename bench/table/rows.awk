# A row of `spindle bench --json`, for the other programs here.
function value(key,  field) {
  if (!match($0, "\"" key "\": \"?[^,\"}]*")) return ""
  field = substr($0, RSTART, RLENGTH)
  sub("\"" key "\": \"?", "", field)
  return field
}
function dims(  v) {
  v = value("head_dim_v")
  return value("head_dim") (v == "" || v == value("head_dim") ? "" : "/" v)
}
function shape() { return value("dtype") " D=" dims() " " value("heads") "/" value("kv_heads") " B=" value("batch") }
# Rows recorded before there was a status are all measured.
function measured() { return value("status") == "" || value("status") == "ok" }
function number(format, x) { return x == "" ? "-" : sprintf(format, x) }
# Fewer query rows than keys.
function chunk() { return value("phase") == "prefill" && value("q_len") + 0 < value("seq_len") + 0 }
