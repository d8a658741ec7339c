/*
 * The attributes that our objects are written with, by their keyword (PS3.6). Private to the
 * writer.
 */
#ifndef MF_DICOM_KEYWORDS_H
#define MF_DICOM_KEYWORDS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(keyword, group, element, VR). Where the VR depends on the value there is one entry for each. */
#define MF_KEYWORDS(X)                                                                             \
    X(SpecificCharacterSet, 0x0008, 0x0005, CS)                                                    \
    X(ImageType, 0x0008, 0x0008, CS)                                                               \
    X(InstanceCreationDate, 0x0008, 0x0012, DA)                                                    \
    X(InstanceCreationTime, 0x0008, 0x0013, TM)                                                    \
    X(SOPClassUID, 0x0008, 0x0016, UI)                                                             \
    X(SOPInstanceUID, 0x0008, 0x0018, UI)                                                          \
    X(StudyDate, 0x0008, 0x0020, DA)                                                               \
    X(SeriesDate, 0x0008, 0x0021, DA)                                                              \
    X(ContentDate, 0x0008, 0x0023, DA)                                                             \
    X(StudyTime, 0x0008, 0x0030, TM)                                                               \
    X(SeriesTime, 0x0008, 0x0031, TM)                                                              \
    X(ContentTime, 0x0008, 0x0033, TM)                                                             \
    X(AccessionNumber, 0x0008, 0x0050, SH)                                                         \
    X(Modality, 0x0008, 0x0060, CS)                                                                \
    X(ConversionType, 0x0008, 0x0064, CS)                                                          \
    X(Manufacturer, 0x0008, 0x0070, LO)                                                            \
    X(ReferringPhysicianName, 0x0008, 0x0090, PN)                                                  \
    X(CodeValue, 0x0008, 0x0100, SH)                                                               \
    X(CodingSchemeDesignator, 0x0008, 0x0102, SH)                                                  \
    X(CodeMeaning, 0x0008, 0x0104, LO)                                                             \
    X(MappingResource, 0x0008, 0x0105, CS)                                                         \
    X(CodingSchemeIdentificationSequence, 0x0008, 0x0110, SQ)                                      \
    X(CodingSchemeName, 0x0008, 0x0115, ST)                                                        \
    X(CodingSchemeResponsibleOrganization, 0x0008, 0x0116, ST)                                     \
    X(LongCodeValue, 0x0008, 0x0119, UC)                                                           \
    X(TimezoneOffsetFromUTC, 0x0008, 0x0201, SH)                                                   \
    X(StudyDescription, 0x0008, 0x1030, LO)                                                        \
    X(SeriesDescription, 0x0008, 0x103E, LO)                                                       \
    X(ManufacturerModelName, 0x0008, 0x1090, LO)                                                   \
    X(ReferencedStudySequence, 0x0008, 0x1110, SQ)                                                 \
    X(ReferencedPerformedProcedureStepSequence, 0x0008, 0x1111, SQ)                                \
    X(ReferencedSeriesSequence, 0x0008, 0x1115, SQ)                                                \
    X(ReferencedImageSequence, 0x0008, 0x1140, SQ)                                                 \
    X(ReferencedInstanceSequence, 0x0008, 0x114A, SQ)                                              \
    X(ReferencedSOPClassUID, 0x0008, 0x1150, UI)                                                   \
    X(ReferencedSOPInstanceUID, 0x0008, 0x1155, UI)                                                \
    X(ReferencedFrameNumber, 0x0008, 0x1160, IS)                                                   \
    X(ReferencedSOPSequence, 0x0008, 0x1199, SQ)                                                   \
    X(DerivationDescription, 0x0008, 0x2111, ST)                                                   \
    X(SourceImageSequence, 0x0008, 0x2112, SQ)                                                     \
    X(DerivationImageSequence, 0x0008, 0x9124, SQ)                                                 \
    X(DerivationCodeSequence, 0x0008, 0x9215, SQ)                                                  \
    X(PatientName, 0x0010, 0x0010, PN)                                                             \
    X(PatientID, 0x0010, 0x0020, LO)                                                               \
    X(IssuerOfPatientID, 0x0010, 0x0021, LO)                                                       \
    X(PatientBirthDate, 0x0010, 0x0030, DA)                                                        \
    X(PatientSex, 0x0010, 0x0040, CS)                                                              \
    X(PatientAge, 0x0010, 0x1010, AS)                                                              \
    X(BodyPartExamined, 0x0018, 0x0015, CS)                                                        \
    X(SliceThickness, 0x0018, 0x0050, DS)                                                          \
    X(DeviceSerialNumber, 0x0018, 0x1000, LO)                                                      \
    X(DateOfSecondaryCapture, 0x0018, 0x1012, DA)                                                  \
    X(TimeOfSecondaryCapture, 0x0018, 0x1014, TM)                                                  \
    X(SoftwareVersions, 0x0018, 0x1020, LO)                                                        \
    X(ContributingEquipmentSequence, 0x0018, 0xA001, SQ)                                           \
    X(ContributionDateTime, 0x0018, 0xA002, DT)                                                    \
    X(ContributionDescription, 0x0018, 0xA003, ST)                                                 \
    X(StudyInstanceUID, 0x0020, 0x000D, UI)                                                        \
    X(SeriesInstanceUID, 0x0020, 0x000E, UI)                                                       \
    X(StudyID, 0x0020, 0x0010, SH)                                                                 \
    X(SeriesNumber, 0x0020, 0x0011, IS)                                                            \
    X(InstanceNumber, 0x0020, 0x0013, IS)                                                          \
    X(PatientOrientation, 0x0020, 0x0020, CS)                                                      \
    X(ImagePositionPatient, 0x0020, 0x0032, DS)                                                    \
    X(ImageOrientationPatient, 0x0020, 0x0037, DS)                                                 \
    X(FrameOfReferenceUID, 0x0020, 0x0052, UI)                                                     \
    X(Laterality, 0x0020, 0x0060, CS)                                                              \
    X(PositionReferenceIndicator, 0x0020, 0x1040, LO)                                              \
    X(FrameContentSequence, 0x0020, 0x9111, SQ)                                                    \
    X(PlanePositionSequence, 0x0020, 0x9113, SQ)                                                   \
    X(PlaneOrientationSequence, 0x0020, 0x9116, SQ)                                                \
    X(DimensionIndexValues, 0x0020, 0x9157, UL)                                                    \
    X(DimensionOrganizationUID, 0x0020, 0x9164, UI)                                                \
    X(DimensionIndexPointer, 0x0020, 0x9165, AT)                                                   \
    X(FunctionalGroupPointer, 0x0020, 0x9167, AT)                                                  \
    X(DimensionOrganizationSequence, 0x0020, 0x9221, SQ)                                           \
    X(DimensionIndexSequence, 0x0020, 0x9222, SQ)                                                  \
    X(SamplesPerPixel, 0x0028, 0x0002, US)                                                         \
    X(PhotometricInterpretation, 0x0028, 0x0004, CS)                                               \
    X(PlanarConfiguration, 0x0028, 0x0006, US)                                                     \
    X(NumberOfFrames, 0x0028, 0x0008, IS)                                                          \
    X(Rows, 0x0028, 0x0010, US)                                                                    \
    X(Columns, 0x0028, 0x0011, US)                                                                 \
    X(PixelSpacing, 0x0028, 0x0030, DS)                                                            \
    X(BitsAllocated, 0x0028, 0x0100, US)                                                           \
    X(BitsStored, 0x0028, 0x0101, US)                                                              \
    X(HighBit, 0x0028, 0x0102, US)                                                                 \
    X(PixelRepresentation, 0x0028, 0x0103, US)                                                     \
    X(WindowCenter, 0x0028, 0x1050, DS)                                                            \
    X(WindowWidth, 0x0028, 0x1051, DS)                                                             \
    X(RescaleIntercept, 0x0028, 0x1052, DS)                                                        \
    X(RescaleSlope, 0x0028, 0x1053, DS)                                                            \
    X(RescaleType, 0x0028, 0x1054, LO)                                                             \
    X(VOILUTFunction, 0x0028, 0x1056, CS)                                                          \
    X(SpatialLocationsPreserved, 0x0028, 0x135A, CS)                                               \
    X(LossyImageCompression, 0x0028, 0x2110, CS)                                                   \
    X(LossyImageCompressionRatio, 0x0028, 0x2112, DS)                                              \
    X(LossyImageCompressionMethod, 0x0028, 0x2114, CS)                                             \
    X(ModalityLUTSequence, 0x0028, 0x3000, SQ)                                                     \
    X(LUTDescriptor, 0x0028, 0x3002, US)                                                           \
    X(LUTDescriptorSigned, 0x0028, 0x3002, SS)                                                     \
    X(ModalityLUTType, 0x0028, 0x3004, LO)                                                         \
    X(LUTData, 0x0028, 0x3006, OW)                                                                 \
    X(VOILUTSequence, 0x0028, 0x3010, SQ)                                                          \
    X(SoftcopyVOILUTSequence, 0x0028, 0x3110, SQ)                                                  \
    X(PixelMeasuresSequence, 0x0028, 0x9110, SQ)                                                   \
    X(RequestedProcedureDescription, 0x0032, 0x1060, LO)                                           \
    X(RequestedProcedureCodeSequence, 0x0032, 0x1064, SQ)                                          \
    X(ScheduledProcedureStepID, 0x0040, 0x0009, SH)                                                \
    X(RequestAttributesSequence, 0x0040, 0x0275, SQ)                                               \
    X(MeasurementUnitsCodeSequence, 0x0040, 0x08EA, SQ)                                            \
    X(RequestedProcedureID, 0x0040, 0x1001, SH)                                                    \
    X(PlacerOrderNumberImagingServiceRequest, 0x0040, 0x2016, LO)                                  \
    X(FillerOrderNumberImagingServiceRequest, 0x0040, 0x2017, LO)                                  \
    X(RelationshipType, 0x0040, 0xA010, CS)                                                        \
    X(ValueType, 0x0040, 0xA040, CS)                                                               \
    X(ConceptNameCodeSequence, 0x0040, 0xA043, SQ)                                                 \
    X(ContinuityOfContent, 0x0040, 0xA050, CS)                                                     \
    X(Date, 0x0040, 0xA121, DA)                                                                    \
    X(UID, 0x0040, 0xA124, UI)                                                                     \
    X(TextValue, 0x0040, 0xA160, UT)                                                               \
    X(ConceptCodeSequence, 0x0040, 0xA168, SQ)                                                     \
    X(PurposeOfReferenceCodeSequence, 0x0040, 0xA170, SQ)                                          \
    X(MeasuredValueSequence, 0x0040, 0xA300, SQ)                                                   \
    X(NumericValue, 0x0040, 0xA30A, DS)                                                            \
    X(PredecessorDocumentsSequence, 0x0040, 0xA360, SQ)                                            \
    X(ReferencedRequestSequence, 0x0040, 0xA370, SQ)                                               \
    X(PerformedProcedureCodeSequence, 0x0040, 0xA372, SQ)                                          \
    X(CurrentRequestedProcedureEvidenceSequence, 0x0040, 0xA375, SQ)                               \
    X(PertinentOtherEvidenceSequence, 0x0040, 0xA385, SQ)                                          \
    X(CompletionFlag, 0x0040, 0xA491, CS)                                                          \
    X(VerificationFlag, 0x0040, 0xA493, CS)                                                        \
    X(PreliminaryFlag, 0x0040, 0xA496, CS)                                                         \
    X(ContentTemplateSequence, 0x0040, 0xA504, SQ)                                                 \
    X(ContentSequence, 0x0040, 0xA730, SQ)                                                         \
    X(TemplateIdentifier, 0x0040, 0xDB00, CS)                                                      \
    X(SegmentationType, 0x0062, 0x0001, CS)                                                        \
    X(SegmentSequence, 0x0062, 0x0002, SQ)                                                         \
    X(SegmentedPropertyCategoryCodeSequence, 0x0062, 0x0003, SQ)                                   \
    X(SegmentNumber, 0x0062, 0x0004, US)                                                           \
    X(SegmentLabel, 0x0062, 0x0005, LO)                                                            \
    X(SegmentationAlgorithmIdentificationSequence, 0x0062, 0x0007, SQ)                             \
    X(SegmentAlgorithmType, 0x0062, 0x0008, CS)                                                    \
    X(SegmentAlgorithmName, 0x0062, 0x0009, LO)                                                    \
    X(SegmentIdentificationSequence, 0x0062, 0x000A, SQ)                                           \
    X(ReferencedSegmentNumber, 0x0062, 0x000B, US)                                                 \
    X(RecommendedDisplayCIELabValue, 0x0062, 0x000D, US)                                           \
    X(MaximumFractionalValue, 0x0062, 0x000E, US)                                                  \
    X(SegmentedPropertyTypeCodeSequence, 0x0062, 0x000F, SQ)                                       \
    X(SegmentationFractionalType, 0x0062, 0x0010, CS)                                              \
    X(SegmentedPropertyTypeModifierCodeSequence, 0x0062, 0x0011, SQ)                               \
    X(SegmentsOverlap, 0x0062, 0x0013, CS)                                                         \
    X(TrackingID, 0x0062, 0x0020, UT)                                                              \
    X(TrackingUID, 0x0062, 0x0021, UI)                                                             \
    X(AlgorithmFamilyCodeSequence, 0x0066, 0x002F, SQ)                                             \
    X(AlgorithmVersion, 0x0066, 0x0031, LO)                                                        \
    X(AlgorithmParameters, 0x0066, 0x0032, LT)                                                     \
    X(AlgorithmName, 0x0066, 0x0036, LO)                                                           \
    X(GraphicAnnotationSequence, 0x0070, 0x0001, SQ)                                               \
    X(GraphicLayer, 0x0070, 0x0002, CS)                                                            \
    X(BoundingBoxAnnotationUnits, 0x0070, 0x0003, CS)                                              \
    X(GraphicAnnotationUnits, 0x0070, 0x0005, CS)                                                  \
    X(UnformattedTextValue, 0x0070, 0x0006, ST)                                                    \
    X(TextObjectSequence, 0x0070, 0x0008, SQ)                                                      \
    X(GraphicObjectSequence, 0x0070, 0x0009, SQ)                                                   \
    X(BoundingBoxTopLeftHandCorner, 0x0070, 0x0010, FL)                                            \
    X(BoundingBoxBottomRightHandCorner, 0x0070, 0x0011, FL)                                        \
    X(BoundingBoxTextHorizontalJustification, 0x0070, 0x0012, CS)                                  \
    X(GraphicDimensions, 0x0070, 0x0020, US)                                                       \
    X(NumberOfGraphicPoints, 0x0070, 0x0021, US)                                                   \
    X(GraphicData, 0x0070, 0x0022, FL)                                                             \
    X(GraphicType, 0x0070, 0x0023, CS)                                                             \
    X(GraphicFilled, 0x0070, 0x0024, CS)                                                           \
    X(DisplayedAreaTopLeftHandCorner, 0x0070, 0x0052, SL)                                          \
    X(DisplayedAreaBottomRightHandCorner, 0x0070, 0x0053, SL)                                      \
    X(DisplayedAreaSelectionSequence, 0x0070, 0x005A, SQ)                                          \
    X(GraphicLayerSequence, 0x0070, 0x0060, SQ)                                                    \
    X(GraphicLayerOrder, 0x0070, 0x0062, IS)                                                       \
    X(GraphicLayerDescription, 0x0070, 0x0068, LO)                                                 \
    X(ContentLabel, 0x0070, 0x0080, CS)                                                            \
    X(ContentDescription, 0x0070, 0x0081, LO)                                                      \
    X(PresentationCreationDate, 0x0070, 0x0082, DA)                                                \
    X(PresentationCreationTime, 0x0070, 0x0083, TM)                                                \
    X(ContentCreatorName, 0x0070, 0x0084, PN)                                                      \
    X(PresentationSizeMode, 0x0070, 0x0100, CS)                                                    \
    X(PresentationPixelSpacing, 0x0070, 0x0101, DS)                                                \
    X(PresentationPixelAspectRatio, 0x0070, 0x0102, IS)                                            \
    X(GraphicLayerRecommendedDisplayCIELabValue, 0x0070, 0x0401, US)                               \
    X(PresentationLUTShape, 0x2050, 0x0020, CS)                                                    \
    X(SharedFunctionalGroupsSequence, 0x5200, 0x9229, SQ)                                          \
    X(PerFrameFunctionalGroupsSequence, 0x5200, 0x9230, SQ)                                        \
    X(PixelData, 0x7FE0, 0x0010, OB)

enum mf_keyword {
#define MF_KEYWORD(keyword, group, element, vr) MF_KW_##keyword,
    MF_KEYWORDS(MF_KEYWORD)
#undef MF_KEYWORD
        MF_KW_COUNT
};

struct mf_keyword_entry {
    uint32_t tag;
    char vr[3];
};

extern const struct mf_keyword_entry mf_keywords[MF_KW_COUNT];

#ifdef __cplusplus
}
#endif

#endif
