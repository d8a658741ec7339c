-- Orthanc sends radiographs to MedFusion as their series become stable ("LuaScripts" in orthanc.json; the modality "medfusion" under
-- "DicomModalities"). Only images of these modalities: results come back into the same study as SR, SEG, OT, PR and KO.
local WANTED = {CR = true, DX = true}

function OnStableSeries(seriesId, tags, metadata)
    if WANTED[tags['Modality']] then
        -- a job of Orthanc, which shows and resumes it; SendToModality() would take single instances only
        RestApiPost('/modalities/medfusion/store', '{"Resources": ["' .. seriesId .. '"], "Synchronous": false}')
    end
end
