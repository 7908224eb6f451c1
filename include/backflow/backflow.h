/* backflow.h -- everything public. */
#ifndef BACKFLOW_BACKFLOW_H
#define BACKFLOW_BACKFLOW_H

#include "backflow/claims.h"
#include "backflow/error.h"
#include "backflow/find.h"
#include "backflow/heads.h"
#include "backflow/model.h"
#include "backflow/plot.h"
#include "backflow/record.h"
#include "backflow/render.h"
#include "backflow/report.h"
#include "backflow/tokenizer.h"
#include "backflow/tracer.h"
#include "backflow/train.h"
#include "backflow/trust.h"

#define BF_VERSION "0.1.0"

#endif
