/*
 * Order: the numbers of the order that a study was made for, as they go into every output (JSON,
 * DICOM objects, FHIR, HL7 v2). All are borrowed, and NULL where the images do not say.
 */
#ifndef MF_CORE_ORDER_H
#define MF_CORE_ORDER_H

struct mf_order {
    const char *accession; /* Accession Number (0008,0050) */
    const char *placer;    /* Placer Order Number (0040,2016) */
    const char *filler;    /* Filler Order Number (0040,2017) */
    const char *procedure; /* Requested Procedure ID (0040,1001) */
    const char *step;      /* Scheduled Procedure Step ID (0040,0009) */
};

#endif
