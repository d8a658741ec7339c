/*
 * `medfusion model`: inspect, verify and sign a bundle. A signature is Ed25519 (RFC 8032,
 * OpenSSL's) over the bytes of manifest.json, 64 bytes in manifest.sig; the manifest holds the
 * SHA-256 of every other file.
 */
#include "server/cli.h"
#include "server/cmd.h"

#include "core/json.h"
#include "engine/bundle.h"
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion model inspect DIR\n"
    "       medfusion model verify  DIR [--key PUBLIC.pem]\n"
    "       medfusion model sign    DIR --key PRIVATE.pem\n"
    "\n"
    "inspect  prints what the bundle is: labels, modules, sizes, calibration\n"
    "verify   checks every file against the manifest, every tensor against the configurations, and "
    "with\n"
    "         --key the signature\n"
    "sign     checks the bundle and writes manifest.sig with an Ed25519 key (openssl genpkey "
    "-algorithm\n"
    "         ed25519)\n";

enum { SIGNATURE_BYTES = 64, MANIFEST_MAX = 16 << 20 };

MF_AUTO_DEFINE(pkey, EVP_PKEY *, EVP_PKEY_free(*p))
MF_AUTO_DEFINE(md_context, EVP_MD_CTX *, EVP_MD_CTX_free(*p))

static bool path_in(const char *dir, const char *name, char *path, size_t size,
                    struct mf_error *err)
{
    if ((size_t)snprintf(path, size, "%s/%s", dir, name) >= size)
        return mf_error_set(err, MF_ERR_USAGE, "%s: the path is too long", dir);
    return true;
}

static EVP_PKEY *read_key(const char *path, bool private_key, struct mf_error *err)
{
    MF_AUTO(mf_file) FILE *f = fopen(path, "re");
    if (!f) {
        mf_error_set(err, MF_ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
        return NULL;
    }
    EVP_PKEY *key = private_key ? PEM_read_PrivateKey(f, NULL, NULL, NULL)
                                : PEM_read_PUBKEY(f, NULL, NULL, NULL);
    if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
        return key;
    EVP_PKEY_free(key);
    mf_error_set(err, MF_ERR_UNUSABLE, "%s: not %s Ed25519 key in PEM", path,
                 private_key ? "a private" : "a public");
    return NULL;
}

static bool read_manifest(const char *dir, struct mf_buffer *manifest, struct mf_error *err)
{
    char path[4096];
    mf_buffer_init(manifest, MANIFEST_MAX);
    return path_in(dir, "manifest.json", path, sizeof path, err) &&
           mf_buffer_read_file(manifest, path, err);
}

static bool verify_signature(const char *dir, const char *key_path, struct mf_error *err)
{
    char path[4096];
    MF_AUTO(mf_buffer) struct mf_buffer manifest, signature;
    mf_buffer_init(&signature, SIGNATURE_BYTES);
    if (!read_manifest(dir, &manifest, err) ||
        !path_in(dir, "manifest.sig", path, sizeof path, err) ||
        !mf_buffer_read_file(&signature, path, err))
        return false;
    MF_AUTO(pkey) EVP_PKEY *key = read_key(key_path, false, err);
    MF_AUTO(md_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!key || !context)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestVerify(context, (const unsigned char *)signature.data, signature.len,
                         (const unsigned char *)manifest.data, manifest.len) != 1)
        return mf_error_set(err, MF_ERR_MODEL, "%s: manifest.sig is not this key's signature", dir);
    return true;
}

static bool write_signature(const char *dir, const char *key_path, struct mf_error *err)
{
    char path[4096];
    unsigned char signature[SIGNATURE_BYTES];
    size_t len = sizeof signature;
    MF_AUTO(mf_buffer) struct mf_buffer manifest;
    if (!read_manifest(dir, &manifest, err) ||
        !path_in(dir, "manifest.sig", path, sizeof path, err))
        return false;
    MF_AUTO(pkey) EVP_PKEY *key = read_key(key_path, true, err);
    MF_AUTO(md_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!key || !context)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, signature, &len, (const unsigned char *)manifest.data,
                       manifest.len) != 1)
        return mf_error_set(err, MF_ERR_INTERNAL, "%s: cannot sign", key_path);
    FILE *f = fopen(path, "we");
    bool ok = f && fwrite(signature, 1, len, f) == len;
    ok = f && fclose(f) == 0 && ok;
    return ok || mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(errno));
}

/* Bytes that a worker with this bundle plans for on the CPU: a study of one frame, and of the most.
 */
static bool add_memory(const struct mf_bundle *bundle, json_t *description, struct mf_error *err)
{
    static const char *const DTYPES[] = {"f32", "bf16", "int8"};
    json_t *memory = json_object();
    for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++) {
        const struct mf_engine_options options = {.device = "cpu", .dtype = DTYPES[i]};
        MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, err);
        size_t weights, one = engine ? mf_engine_memory(engine, &weights) : 0;
        if (!engine || !mf_engine_warm(engine, mf_bundle_max_frames(bundle), err)) {
            json_decref(memory);
            return false;
        }
        size_t most = mf_engine_memory(engine, &weights);
        json_object_set_new(memory, DTYPES[i],
                            json_pack("{s:I, s:I, s:I, s:I}", "weights", (json_int_t)weights,
                                      "work_one_frame", (json_int_t)one, "work_max_frames",
                                      (json_int_t)most, "peak",
                                      (json_int_t)weights + (json_int_t)most));
    }
    return json_object_set_new(description, "planned_memory_bytes", memory) == 0;
}

static bool inspect(const struct mf_bundle *bundle, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *description = mf_bundle_describe(bundle, err);
    if (!description || !add_memory(bundle, description, err))
        return false;
    MF_AUTO(mf_mem) char *text = description ? mf_json_text(description, 2) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return puts(text) >= 0 || mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
}

static bool run(const char *verb, const char *dir, const char *key, struct mf_error *err)
{
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, err);
    if (!bundle)
        return false;
    if (strcmp(verb, "inspect") == 0)
        return inspect(bundle, err);
    bool sign = strcmp(verb, "sign") == 0;
    if (sign ? !write_signature(dir, key, err) : key && !verify_signature(dir, key, err))
        return false;
    printf("%s %s %s: %s\n", mf_bundle_name(bundle), mf_bundle_version(bundle),
           mf_bundle_digest(bundle),
           sign  ? "signed"
           : key ? "files and signature are right"
                 : "files are right, the signature was not checked (--key)");
    return true;
}

int mf_cmd_model(int argc, char **argv)
{
    static const struct option LONG[] = {{"key", required_argument, NULL, 'k'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    struct mf_error err = MF_ERROR_INIT;
    const char *key = NULL;
    int c;
    while ((c = mf_cli_option(argc, argv, ":hk:", LONG, &err)) != -1) {
        if (c == 'h')
            return mf_cli_help(USAGE);
        if (c == '?')
            return mf_cli_fail("model", &err);
        key = optarg;
    }
    const char *verb = optind < argc ? argv[optind] : "";
    bool sign = strcmp(verb, "sign") == 0,
         known = sign || strcmp(verb, "inspect") == 0 || strcmp(verb, "verify") == 0;
    if (!known || optind + 2 != argc)
        mf_error_set(&err, MF_ERR_USAGE,
                     "expected inspect, verify or sign, and one DIR; see --help");
    else if (sign && !key)
        mf_error_set(&err, MF_ERR_USAGE, "sign needs --key PRIVATE.pem");
    else if (run(verb, argv[optind + 1], key, &err))
        return MF_EXIT_OK;
    return mf_cli_fail("model", &err);
}
