/*
 * Commands of the program: each takes the arguments from its own name on (argv[0] is "fhir") and returns
 * the exit status: 0 ok, 1 the work failed, 2 usage. Errors are one line on stderr.
 */
#ifndef MF_SERVER_CMD_H
#define MF_SERVER_CMD_H

int mf_cmd_fhir(int argc, char **argv); /* fhir features --model DIR [--at DATETIME] FILE */

#endif
