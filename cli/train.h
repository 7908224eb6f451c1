/* train.h -- the figure of a training. */
#ifndef BF_CLI_TRAIN_H
#define BF_CLI_TRAIN_H

#include "cli/cli.h"

/* Draw folder/log.jsonl to folder/loss.svg. BF_EIO, BF_EFORMAT a line that is none, BF_ENOMEM. */
bf_code cli_draw_training(const char *folder, bf_error *err);

#endif
