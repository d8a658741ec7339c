/* Character sets: text of a data set as UTF-8. Private to the module; behind DCMTK's fence. */
#ifndef MF_DICOM_CHARSET_H
#define MF_DICOM_CHARSET_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `length` bytes in the character set `charset` (the value of SpecificCharacterSet, "" = ASCII) as
 * UTF-8 in `out` (`size` bytes); what cannot be converted becomes U+FFFD. */
void mf_charset_to_utf8(const char *charset, const char *text, size_t length, char *out,
                        size_t size);

/* Opens a converter for every defined term and keeps it: glibc loads a module per character set,
 * unloads those that nobody holds, and could not load them again behind a seccomp filter. May throw
 * std::bad_alloc. */
void mf_charset_preload(void);

#ifdef __cplusplus
}
#endif

#endif
