/*
 * Commands of the program: each takes the arguments from its own name on (argv[0] is "medfusion
 * fhir") and returns the exit status: 0 ok, 1 the work failed, 2 usage. Errors are one line on
 * stderr.
 */
#ifndef MF_SERVER_CMD_H
#define MF_SERVER_CMD_H

int mf_cmd_serve(int argc, char **argv);     /* serve [--config FILE] [--section.key VALUE]… */
int mf_cmd_worker(int argc, char **argv);    /* worker [--config FILE] [--device DEV] … */
int mf_cmd_predict(int argc, char **argv);   /* predict --model DIR [options] PATH… */
int mf_cmd_calibrate(int argc, char **argv); /* calibrate --model DIR --manifest CSV -o DIR */
int mf_cmd_bench(int argc, char **argv);     /* bench --model DIR [options] [PATH…] */
int mf_cmd_model(int argc, char **argv);     /* model inspect|verify|sign|smooth DIR */
int mf_cmd_module(int argc, char **argv);    /* module run DIR --input FILE --output FILE */
int mf_cmd_audit(int argc, char **argv);     /* audit verify|list DIR … */
int mf_cmd_outbox(int argc, char **argv);    /* outbox list|retry|drop DIR … */
int mf_cmd_key(int argc, char **argv);       /* key add|list|revoke FILE … */
int mf_cmd_vault(int argc, char **argv);     /* vault add|status|rewrap|seal … */
int mf_cmd_backup(int argc, char **argv);    /* backup DIRECTORY [--config FILE] … */
int mf_cmd_restore(int argc, char **argv);   /* restore DIRECTORY [--config FILE] … */
int mf_cmd_reload(int argc, char **argv);    /* reload DIRECTORY */
int mf_cmd_dicom(int argc, char **argv);     /* dicom info|frame|study|volume … */
int mf_cmd_fhir(int argc, char **argv);      /* fhir features --model DIR [--at DATETIME] FILE */

#endif
