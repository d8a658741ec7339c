/* S3: the few elements that are read out of a server's XML answers. They have neither attributes
 * nor children of their own name. */
#ifndef MF_SERVER_S3_XML_H
#define MF_SERVER_S3_XML_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A piece of an answer. */
struct mf_s3_xml {
    const char *at, *end;
};

/* The content of the next element of this name; *whole is left behind it. False: there is none. */
bool mf_s3_xml_next(struct mf_s3_xml *whole, const char *name, struct mf_s3_xml *ret);

/* The text of the first element of this name, its entities resolved; false: there is none, or it is
 * longer than size − 1, or broken. */
bool mf_s3_xml_text(struct mf_s3_xml whole, const char *name, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
