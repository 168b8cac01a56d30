# From the table of a --help: lines PROGRAM MODE OPTION VALUES, tabs between; "-" for no mode, no values, or words that come first.
function say(option, values) { print program "\t" (mode == "" ? "-" : mode) "\t" option "\t" (values == "" ? "-" : values) }
{ split($0, field, "\t") }
field[1] == "mode" { modes = modes (modes == "" ? "" : " ") field[2] }
field[1] == "option" {
  n = split(field[2], word, " ")
  values = ""
  last = word[n]
  if (last !~ /^-/ && last ~ /\|/) {
    values = last
    gsub(/\|/, " ", values)
    gsub(/ ?[^ ]*[A-Z][^ ]*/, "", values)  # DIR, cuda:N
    sub(/^ /, "", values)
  }
  if (field[3] ~ /^network: /) {
    values = field[3]
    sub(/^network: /, "", values)
    sub(/ \[.*/, "", values)
    gsub(/,/, "", values)
  }
  for (i = 1; i <= n; ++i) {
    sub(/,$/, "", word[i])
    if (word[i] ~ /^-/) say(word[i], values)
  }
}
field[1] == "line" && match(field[2], /\[--[a-z_]+=/) { say(substr(field[2], RSTART + 1, RLENGTH - 1), "") }  # Google Benchmark's
END { if (mode == "" && modes != "") say("-", modes) }
