#!/bin/sh
# `file` for CPack, which asks it whose libraries are dependencies and what ldconfig has to know. What the CUDA module needs is
# not Debian's, and only machines with a GPU want it.
case $* in
  */libmicrotome_cuda.so) echo "$*: data" ;;
  *) exec file "$@" ;;
esac
