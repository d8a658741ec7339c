/* `medfusion dicom deidentify`: see cmd_deidentify.c. */
#ifndef MF_SERVER_CMD_DEIDENTIFY_H
#define MF_SERVER_CMD_DEIDENTIFY_H

/* argv[1] is "deidentify"; returns the exit status. */
int mf_cmd_deidentify(int argc, char **argv);

#endif
