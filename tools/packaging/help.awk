# A program's --help as a table, a line a thing: about TEXT | mode WORD | section NAME | option NAMES TEXT | line TEXT, tabs between.
function flush() {
  if (names != "") print "option\t" names "\t" text
  names = ""
}
BEGIN { section = "" ; before = "" ; nr_sections = 0 }
/^[ ]*$/ { before = "" ; if (section == "") begun = 1 ; next }
before == "" && begun && /^[^ ]/ {
  flush()
  section = $0
  print "section\t" section
  before = $0
  next
}
section == "" { print "about\t" $0 ; before = $0 ; next }
section == "Usage" {
  # The words of "data verify|audit --data DIR" and of "profile --net NAME | diff A B".
  rest = $0
  sub(/^ *[a-z]+ +/, "", rest)
  rest = "|" rest
  while (match(rest, /\| *[a-z]+/)) {
    word = substr(rest, RSTART + 1, RLENGTH - 1)
    gsub(/ /, "", word)
    after = substr(rest, RSTART + RLENGTH, 1)
    if (after == "" || after == " " || after == "|") print "mode\t" word
    rest = substr(rest, RSTART + RLENGTH)
  }
}
section == "Usage" || section == "Examples" { sub(/^  /, "") ; print "line\t" $0 ; before = $0 ; next }
/^(  |      )[^ ]/ {
  flush()
  line = $0
  sub(/^ +/, "", line)
  at = match(line, /   */)
  names = at ? substr(line, 1, at - 1) : line
  text = at ? substr(line, RSTART + RLENGTH) : ""
  before = $0
  next
}
names != "" { line = $0 ; sub(/^ +/, "", line) ; text = text " " line ; before = $0 ; next }
{ print "line\t" $0 ; before = $0 }
END { flush() }
