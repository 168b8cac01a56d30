# A man page from the table of a program's --help, and from those of its modes that have one of their own.
function plain(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  gsub(/…/, "...", text)  # which not every terminal has
  if (text ~ /^[.']/) text = "\\&" text
  return text
}
# Options bold, what they take in italics.
function marked(names,   words, n, i, all, comma) {
  n = split(names, words, " ")
  for (i = 1; i <= n; ++i) {
    comma = sub(/,$/, "", words[i]) ? "," : ""
    all = all (i > 1 ? " " : "") (words[i] ~ /^-/ ? "\\fB" : "\\fI") plain(words[i]) "\\fR" comma
  }
  return all
}
function commands(n, lines, heading,   i) {
  if (n == 0) return
  print heading
  print ".nf"
  for (i = 1; i <= n; ++i) print lines[i]
  print ".fi"
}
function finish(   i) {
  if (page == 0) return
  if (page == 1) {
    sub(/\.$/, "", about[1])
    printf ".TH %s 1 \"%s\" \"microtome %s\" \"Microtome\"\n", plain(toupper("microtome-" program)), date, version
    print ".SH NAME"
    print plain("microtome-" program) " \\- " plain(about[1])
    commands(usages, usage, ".SH SYNOPSIS")
    if (abouts > 1) print ".SH DESCRIPTION"
    for (i = 2; i <= abouts; ++i) print plain(about[i])
    print ".SH OPTIONS"
    for (i = 1; i <= bodies; ++i) print body[i]
    commands(examples, example, ".SH EXAMPLES")
  } else {
    print ".SH " plain(toupper(mode))
    for (i = 1; i <= abouts; ++i) print plain(about[i])
    commands(usages, usage, ".PP")
    for (i = 1; i <= bodies; ++i) print body[i]
    commands(examples, example, ".SS Examples")
  }
}
FNR == 1 {
  finish()
  ++page
  mode = FILENAME
  sub(/\.table$/, "", mode)
  sub(/.*\./, "", mode)
  abouts = usages = examples = bodies = 0
  section = ""
}
{ split($0, field, "\t") }
field[1] == "about" { about[++abouts] = field[2] }
field[1] == "section" {
  section = field[2]
  if (section != "Usage" && section != "Examples") body[++bodies] = ".SS " plain(section)
  verbatim = 0
}
field[1] == "option" { verbatim = 0 ; body[++bodies] = ".TP\n" marked(field[2]) "\n" plain(field[3]) }
field[1] == "line" && section == "Usage" { usage[++usages] = plain("microtome " field[2]) }
field[1] == "line" && section == "Examples" { example[++examples] = plain("microtome " field[2]) }
field[1] == "line" && section != "Usage" && section != "Examples" {
  if (verbatim && sub(/\n\.fi$/, "", body[bodies])) body[bodies] = body[bodies] "\n" plain(field[2]) "\n.fi"
  else body[++bodies] = ".nf\n" plain(field[2]) "\n.fi"
  verbatim = 1
}
END {
  finish()
  print ".SH SEE ALSO"
  print ".BR microtome (1)"
}
