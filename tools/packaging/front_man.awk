# The front end's man page, with the list of programs that it prints itself.
function plain(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  gsub(/…/, "...", text)  # which not every terminal has
  return text
}
BEGIN {
  printf ".TH MICROTOME 1 \"%s\" \"microtome %s\" \"Microtome\"\n", date, version
  print ".SH NAME\nmicrotome \\- train and measure convolutional networks of histology"
  print ".SH SYNOPSIS"
  print ".B microtome\n.I PROGRAM\n[options]\n.br"
  print ".B microtome\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR | \\fB\\-\\-version\\fR"
  print ".SH DESCRIPTION"
  print "Runs the program that is named first with the words that follow. Each has a page of its own and explains itself with"
  print ".BR \\-\\-help ."
  print "For research. Not a medical device, and not for diagnosis."
  print ".SH PROGRAMS"
  while ((getline line < programs) > 0) {
    sub(/^ +/, "", line)
    at = index(line, " ")
    name = substr(line, 1, at - 1)
    text = substr(line, at)
    sub(/^ +/, "", text)
    print ".TP\n.B " plain(name) "\n" plain(text)
    pages = pages (pages == "" ? "" : ",\n") ".BR " plain("microtome-" name) " (1)"
  }
  print ".SH EXIT STATUS"
  print "The program's. 2 where there is no program of that name, 8 where the programs do not lie beside"
  print ".BR microtome ."
  gsub(/\(1\),/, "(1),", pages)
  print ".SH SEE ALSO\n" pages
}
