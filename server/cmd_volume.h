/* `medfusion dicom volume`: see cmd_volume.c. */
#ifndef MF_SERVER_CMD_VOLUME_H
#define MF_SERVER_CMD_VOLUME_H

/* argv[1] is "volume"; returns the exit status. */
int mf_cmd_volume(int argc, char **argv);

#endif
