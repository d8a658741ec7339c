"""QIDO-RS and WADO-RS over stored instances, with dicomweb-client and with plain requests."""
import io

import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient

import daemon as daemons
from dicom_net import JSON, part10, radiograph, related


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("web"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(daemon):
    return DICOMwebClient(daemon.url + "/dicom-web")


@pytest.fixture(scope="module")
def stored(client):
    """Two studies: one of two series and three instances of Müller, one of Roe."""
    first = radiograph(patient="M-1", PatientName="Müller^Änne", StudyDate="20240102", AccessionNumber="ACC-7")
    second = radiograph(patient="M-1", PatientName="Müller^Änne", study=first.StudyInstanceUID, series=first.SeriesInstanceUID, InstanceNumber=2)
    third = radiograph(patient="M-1", PatientName="Müller^Änne", study=first.StudyInstanceUID, Modality="CR", SeriesNumber=2)
    other = radiograph(patient="R-1", PatientName="Roe^Richard", StudyDate="20200630", AccessionNumber="")
    client.store_instances([first, second, third])
    client.store_instances([other], study_instance_uid=other.StudyInstanceUID)
    return first, second, third, other


def value(row, tag):
    return row[tag].get("Value", [None])[0]


def test_studies_are_found_with_their_counts(client, stored):
    [row] = client.search_for_studies(search_filters={"PatientID": "M-1"})
    assert value(row, "0020000D") == stored[0].StudyInstanceUID
    assert (value(row, "00201206"), value(row, "00201208")) == (2, 3)
    assert sorted(row["00080061"]["Value"]) == ["CR", "DX"]
    assert row["00100010"]["Value"] == [{"Alphabetic": "Müller^Änne"}]
    assert value(row, "00080056") == "ONLINE" and value(row, "00081190").endswith(stored[0].StudyInstanceUID)
    pydicom.Dataset.from_json(row)


@pytest.mark.parametrize("filters, found", [
    ({"PatientName": "müller*"}, 1), ({"PatientName": "*richard"}, 1), ({"PatientName": "M*ne"}, 1), ({"PatientName": "nobody"}, 0),
    ({"StudyDate": "20240101-20241231"}, 1), ({"StudyDate": "20200630"}, 1), ({"StudyDate": "-20231231"}, 1), ({"StudyDate": "19000101-"}, 2),
    ({"ModalitiesInStudy": "CR"}, 1), ({"ModalitiesInStudy": "DX"}, 2), ({"AccessionNumber": "ACC-?"}, 1), ({"00080050": "ACC-7"}, 1),
    ({"PatientID": ""}, 2), ({"PatientID": "M-1", "StudyDate": "20200630"}, 0), ({"PatientID": "' OR '1'='1"}, 0), ({}, 2)])
def test_matching(client, stored, filters, found):
    assert len(client.search_for_studies(search_filters=filters)) == found


def test_uid_lists_limits_and_offsets(client, stored):
    uids = f"{stored[0].StudyInstanceUID},{stored[3].StudyInstanceUID},1.2.3"
    assert len(client.search_for_studies(search_filters={"StudyInstanceUID": uids})) == 2
    pages = [client.search_for_instances(limit=1, offset=i) for i in range(5)]
    assert [len(page) for page in pages] == [1, 1, 1, 1, 0]
    assert len({value(page[0], "00080018") for page in pages[:4]}) == 4


def test_series_and_instances(client, stored):
    series = client.search_for_series(stored[0].StudyInstanceUID)
    assert [(value(row, "00080060"), value(row, "00201209")) for row in series] == [("DX", 2), ("CR", 1)]
    assert "00100020" not in series[0] and value(series[0], "0020000D") == stored[0].StudyInstanceUID
    assert len(client.search_for_series(search_filters={"PatientID": "M-1"})) == 2
    rows = client.search_for_instances(stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID)
    assert {value(row, "00080018") for row in rows} == {stored[0].SOPInstanceUID, stored[1].SOPInstanceUID}
    assert value(rows[0], "00280010") == 32


def test_objects_come_back_as_they_were(client, stored):
    back = client.retrieve_study(stored[0].StudyInstanceUID)
    assert {ds.SOPInstanceUID for ds in back} == {ds.SOPInstanceUID for ds in stored[:3]}
    one = client.retrieve_instance(stored[3].StudyInstanceUID, stored[3].SeriesInstanceUID, stored[3].SOPInstanceUID)
    assert one == stored[3] and one.PixelData == stored[3].PixelData
    assert len(client.retrieve_series(stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID)) == 2


def test_metadata_is_the_header(client, stored):
    rows = client.retrieve_study_metadata(stored[0].StudyInstanceUID)
    assert len(rows) == 3
    ds = stored[3]
    row = client.retrieve_instance_metadata(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    header = pydicom.Dataset.from_json(row)
    expected = pydicom.dcmread(io.BytesIO(part10(stored[3])), stop_before_pixels=True)
    assert header == expected and "PixelData" not in header


def path(ds):
    return f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


@pytest.mark.parametrize("accept, status", [
    ("application/dicom", 200), ("multipart/related", 200), ('multipart/related; type="application/dicom"', 200), ("*/*", 200),
    ('multipart/related; type="application/dicom"; transfer-syntax=*', 200), ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", 200),
    ("application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90", 406), ('multipart/related; type="image/jpeg"', 406), ("text/html", 406),
    ("image/png, application/dicom", 200), ("", 406)])
def test_what_is_acceptable(daemon, stored, accept, status):
    response = daemon.get(path(stored[3]), headers={"Accept": accept})
    assert response.status_code == status
    if response.headers["Content-Type"] == "application/dicom":
        assert response.content[128:132] == b"DICM" and pydicom.dcmread(io.BytesIO(response.content)) == stored[3]


def test_paths_that_lead_nowhere(daemon, stored):
    ds = stored[0]
    for wrong in ("/dicom-web/studies/1.2.3", f"/dicom-web/studies/{ds.StudyInstanceUID}/series/9.9",
                  f"/dicom-web/studies/{stored[3].StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"):
        assert daemon.get(wrong).status_code == 404
        assert daemon.get(wrong + "/metadata").status_code == 404
    assert daemon.get("/dicom-web/studies/x..").status_code == 400
    assert daemon.get("/dicom-web/studies", params={"Nonsense": "1"}).status_code == 400
    assert daemon.get("/dicom-web/studies", params={"limit": "-1"}).status_code == 400
    assert daemon.get("/dicom-web/studies", params={"PatientID": "nobody"}).status_code == 204
    assert daemon.get("/dicom-web/studies", headers={"Accept": "text/csv"}).status_code == 406


def test_a_large_object_is_streamed(daemon, stored):
    ds = radiograph(size=3000)
    body, kind = related([part10(ds)])
    assert requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}).status_code == 200
    back = daemon.get(path(ds), headers={"Accept": "application/dicom"})
    assert back.content == part10(ds) and int(back.headers["Content-Length"]) == len(back.content)
    head = requests.head(daemon.url + path(ds), headers={"Accept": "application/dicom"})
    assert head.status_code == 200 and head.content == b""
