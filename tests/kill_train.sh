#!/bin/sh
# Kill a training at 20 random moments (or as many as the second argument says) and see that it ends with
# the bits of one that was left alone: tests/kill_train.sh BUILD [KILLS]
BF_KILLS=${2:-20} exec "${1:-build}/tests/test_train"
