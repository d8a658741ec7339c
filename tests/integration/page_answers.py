"""Fixed answers of the service for a picture of the page that is the same everywhere: every state of a job, every state and guarantee of a
finding, alarms. Images are the real ones of a job that has run. Times are relative to NOW, which the browser's clock shows."""
import copy
import datetime
import json

NOW = datetime.datetime(2026, 3, 2, 14, 30, tzinfo=datetime.timezone.utc)
MODEL = {"name": "thorax-demo", "version": "1.2.3", "digest": "d1" * 32, "model_hash": "a5" * 32, "device": "cpu", "dtype": "f32"}
CALIBRATION = {"id": "site-2026", "created": "2026-01-15T00:00:00Z", "patients": 412, "model_hash": "a5" * 32}


def ago(seconds):
    return (NOW - datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def job(number, state, **members):
    document = {"schema": "medfusion.job/1", "id": f"{number:08x}" * 4, "state": state, "priority": "routine", "model": MODEL["name"], "position": None,
                "eta_s": None, "progress": 0.0, "attempts": 0, "created": ago(60), "started": None, "finished": None, "cancel_requested": False,
                "purged": False, "problem": None}
    return {**document, **members}


QUEUED = job(5, "queued", priority="stat", position=1, created=ago(20))
RUNNING = job(4, "running", priority="urgent", progress=0.4, attempts=1, created=ago(90), started=ago(15))
FAILED = job(2, "failed", attempts=3, created=ago(7200), started=ago(7190), finished=ago(7000), problem={
    "schema": "medfusion.problem/1", "type": "urn:medfusion:problem:crashed", "title": "Processing failed", "status": 500,
    "detail": "processing this job alone crashed the worker 3 times"})
PURGED = job(1, "succeeded", attempts=1, purged=True, progress=1.0, created=ago(90000), started=ago(89999), finished=ago(89998))


def prediction(label, logit, probability, chosen, guarantee, positives):
    p = {"present": (0.62, 0.03), "absent": (0.04, 0.71), "uncertain": (0.35, 0.22), "empty": (0.02, 0.05)}[chosen]
    names = {"present": ["present"], "absent": ["absent"], "uncertain": ["present", "absent"], "empty": []}[chosen]
    return {"label": label.replace(" ", "_"), "display": label, "coding": [{"system": "http://snomed.info/sct", "code": "60046008", "display": label}],
            "logit": logit, "probability": probability, "prediction_set": names, "set_size": len(names), "state": chosen, "p_present": p[0],
            "p_absent": p[1], "q_present": 1.5, "q_absent": None, "n_cal_pos": positives, "n_cal_neg": 400 - positives, "method": "split_conformal",
            "taxonomy": "label_class", "guarantee": guarantee}


def result(real):
    """A result that shows everything, of the real job's study."""
    document = copy.deepcopy(real)
    for frame, status in zip(document["study"]["frames"], ("fallback", "ok")):
        frame["segmentation"].update({"status": status, "iou": 0.91 if status == "ok" else None, "reason": None if status == "ok" else "iou"})
    document.update(model=MODEL, calibration=CALIBRATION, alpha=0.1, predictions=[
        prediction("Effusion", 1.625, 0.71, "present", "valid", 60), prediction("Cardiomegaly", -2.5, 0.061, "absent", "valid", 31),
        prediction("Mass", 0.1, 0.33, "uncertain", "insufficient_calibration", 7), prediction("Nodule", -0.4, 0.18, "empty", "valid", 45)],
        finding_set={"method": "conformal_risk_control", "risk": "fnr", "alpha": 0.1, "labels": ["Effusion", "Mass"]},
        quality={"ood_p_value": 0.03, "flags": ["noisy"], "skipped": [{"object": "part 3", "reason": "not an image"}]},
        timing_ms={"decode": 1.0, "segment": 18.0, "vision": 12.0, "temporal": 0.6, "ehr": 0.1, "fusion": 0.3, "total": 32.0})
    document["ehr"]["features"] = [
        {"id": "age", "value": 43.0, "unit": "a", "status": "used", "source": "Patient/1", "time": None, "policy": None},
        {"id": "crp", "value": 12.25, "unit": "mg/L", "status": "stale", "source": "Observation/7", "time": "2026-01-02T08:00:00Z", "policy": None},
        {"id": "temperature", "value": None, "unit": "Cel", "status": "missing", "source": None, "time": None, "policy": None}]
    return document


def covered(n, hits, promised=0.9):
    return {"n": n, "covered": hits, "coverage": hits / n, "low": 0.6, "high": 0.85, "promised": promised}


NO_FEEDBACK = {"n": 0, "covered": 0, "coverage": None, "low": 0.0, "high": 1.0, "promised": 0.9}
QUALITY = {"schema": "medfusion.quality/1", "models": [{
    "model": MODEL["name"], "version": MODEL["version"], "model_hash": MODEL["model_hash"], "site": None,
    "window": {"last": 1000, "results": 240, "with_feedback": 40, "other_versions": 0, "from": ago(864000), "to": ago(60)},
    "labels": [
        {"label": "Effusion", "scores": {"n": 240, "reference": 412, "psi": 0.41, "psi_noise": 0.05, "ks": 0.2, "p_value": 0.001},
         "sets": {"present": 0.2, "absent": 0.5, "uncertain": 0.25, "empty": 0.05, "mean_size": 1.2},
         "coverage": {"present": covered(20, 15), "absent": covered(20, 16, 0.8)},
         "calibration": {"n": 40, "positives": 20, "observed": 0.5, "low": 0.35, "high": 0.65, "predicted": 0.44, "brier": 0.2}},
        {"label": "Cardiomegaly", "scores": {"n": 240, "reference": 412, "psi": 0.04, "psi_noise": 0.05, "ks": 0.05, "p_value": 0.6},
         "sets": {"present": 0.1, "absent": 0.8, "uncertain": 0.1, "empty": 0.0, "mean_size": 1.1},
         "coverage": {"present": NO_FEEDBACK, "absent": NO_FEEDBACK}, "calibration": None}],
    "coverage_by_alpha": [{"alpha": a, "present": round(1 - 1.6 * a, 3), "absent": round(1 - 0.9 * a, 3)} for a in (0.01, 0.05, 0.1, 0.2, 0.5)],
    "calibration_curve": [{"n": 20, "predicted": p, "observed": o, "low": max(0, o - 0.15), "high": min(1, o + 0.2)}
                          for p, o in ((0.05, 0.05), (0.2, 0.25), (0.45, 0.6), (0.8, 0.75))],
    "features": [{"id": "age", "used": 239, "missing": 1, "psi": 0.05, "psi_noise": 0.04}],
    "outliers": {"n": 240, "share_0_05": 0.12, "low": 0.08, "high": 0.17, "ks": 0.1, "p_value": 0.01}, "flags": {"noisy": 3},
    "alarms": [{"kind": "coverage", "name": "Effusion", "detail": "15 of 20 sets held \"present\", 90 % were promised"}]}]}

METRICS = f"""medfusion_front_start_time_seconds {(NOW - datetime.timedelta(days=3)).timestamp():.0f}
medfusion_http_connections 4
medfusion_http_received_bytes_total 73400320
medfusion_http_requests_total{{method="POST",route="/v1/jobs",status="202"}} 250
medfusion_http_requests_total{{method="POST",route="/v1/jobs",status="422"}} 3
medfusion_http_request_seconds_sum{{method="POST",route="/v1/jobs"}} 5.06
medfusion_jobs{{state="queued"}} 1
medfusion_jobs{{state="running"}} 1
medfusion_jobs_finished_total{{state="succeeded"}} 240
medfusion_jobs_finished_total{{state="failed"}} 1
medfusion_jobs_submitted_total 250
medfusion_jobs_replayed_total 2
medfusion_job_crashes_total 3
medfusion_job_losses_total 1
medfusion_job_wait_seconds_sum 48
medfusion_job_wait_seconds_count 240
medfusion_job_run_seconds_sum 24
medfusion_job_run_seconds_count 240
medfusion_worker_ready{{worker="0",device="cpu"}} 1
medfusion_worker_ready{{worker="1",device="cuda:0"}} 0
medfusion_worker_computing_seconds_total{{worker="0",device="cpu"}} 12
medfusion_worker_batches_total{{worker="0",device="cpu"}} 240
medfusion_worker_studies_total{{worker="0",device="cpu"}} 240
medfusion_gpu_memory_bytes{{worker="1",device="cuda:0",kind="total"}} 85000000000
medfusion_gpu_memory_bytes{{worker="1",device="cuda:0",kind="available"}} 80000000000
medfusion_gpu_memory_bytes{{worker="1",device="cuda:0",kind="models"}} 2400000000
medfusion_quality_results{{model="{MODEL["name"]}"}} 240
medfusion_quality_feedback{{model="{MODEL["name"]}"}} 40
medfusion_quality_alarms{{model="{MODEL["name"]}",kind="coverage"}} 1
"""


def answers(real):
    """Path → JSON (or text) of everything but images; `real` is the result of the job whose images are shown."""
    done = job(3, "succeeded", id=real["job"], attempts=1, progress=1.0, created=ago(600), started=ago(599), finished=ago(598))
    jobs = [QUEUED, RUNNING, done, FAILED, PURGED]
    named = MODEL["name"]
    return {
        "/v1/jobs": lambda query: {"jobs": [j for j in jobs if query.get("state", j["state"]) == j["state"]], "next": None},
        f"/v1/jobs/{real['job']}": done,
        f"/v1/jobs/{real['job']}/result": result(real),
        f"/v1/jobs/{real['job']}/feedback": {"schema": "medfusion.feedback/1", "job": real["job"], "feedback": [
            {"reader": "AB", "time": ago(300), "labels": {"Effusion": "present"}}], "agreed": {"Effusion": "present"}},
        "/v1/quality": QUALITY, "/metrics": METRICS, "/v1/events": 'event: begin\nid: 1\ndata: {"lost": false}\n\n',
        "/v2": {"name": "medfusion", "version": "9.9.9", "extensions": []}, "/v2/health/ready": {"ready": True},
        f"/v2/models/{named}": {"name": named, "versions": [MODEL["version"]], "platform": "medfusion", "inputs": [], "outputs": [], "digest": MODEL["digest"]},
        f"/v2/models/{named}/ready": {"name": named, "ready": True}}


def install(page, real):
    """Answers the page's requests; what is not named here goes to the service."""
    from urllib.parse import parse_qsl, urlsplit

    known = answers(real)

    def respond(route):
        url = urlsplit(route.request.url)
        answer = known.get(url.path)
        if answer is None:
            route.continue_()
            return
        body = answer(dict(parse_qsl(url.query))) if callable(answer) else answer
        kind = "text/event-stream" if url.path == "/v1/events" else "text/plain" if isinstance(body, str) else "application/json"
        route.fulfill(status=200, content_type=kind, body=body if isinstance(body, str) else json.dumps(body))

    page.route("**/*", respond)
    page.clock.set_fixed_time(NOW)
