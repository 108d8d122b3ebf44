"""Says of documents, one JSON list in from standard input, whether a schema accepts each: one JSON list out."""

import json
import sys

import jsonschema

task = json.load(sys.stdin)
validator = jsonschema.Draft202012Validator
validator.check_schema(task["schema"])
checker = validator(task["schema"])
verdicts = []
for document in task["documents"]:
    error = jsonschema.exceptions.best_match(checker.iter_errors(document))
    verdicts.append(None if error is None else f"{list(error.absolute_path)}: {error.message}"[:300])
json.dump(verdicts, sys.stdout)
