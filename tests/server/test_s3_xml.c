/* server/s3_xml.c: elements of answers. */
#include "server/s3_xml.h"

#include "tests/expect.h"

static struct mf_s3_xml of(const char *text)
{
    return (struct mf_s3_xml){text, text + strlen(text)};
}

static void entries_come_one_after_the_other(void **state)
{
    (void)state;
    struct mf_s3_xml all = of("<?xml version=\"1.0\"?>\n<List xmlns=\"http://x/\"><Name>b</Name>"
                              "<Contents><Key>a&amp;b&lt;&gt;&quot;&apos;&#34;</Key><Size>1</Size>"
                              "</Contents><Contents><Key>c</Key></Contents></List>");
    struct mf_s3_xml entry;
    char text[32];
    assert_true(mf_s3_xml_text(all, "Name", text, sizeof text));
    assert_string_equal(text, "b");
    assert_true(mf_s3_xml_next(&all, "Contents", &entry));
    assert_true(mf_s3_xml_text(entry, "Key", text, sizeof text));
    assert_string_equal(text, "a&b<>\"'\"");
    assert_true(mf_s3_xml_next(&all, "Contents", &entry));
    assert_true(mf_s3_xml_text(entry, "Key", text, sizeof text));
    assert_string_equal(text, "c");
    assert_false(mf_s3_xml_text(entry, "Size", text, sizeof text));
    assert_false(mf_s3_xml_next(&all, "Contents", &entry));
}

static void what_is_broken_is_no_element(void **state)
{
    (void)state;
    static const char *const broken[] = {"",
                                         "<",
                                         "<Key",
                                         "<Key>",
                                         "<Key>a",
                                         "<Key>a</Ke",
                                         "<Key>a</Key",
                                         "<Key>a</Keys>",
                                         "<Keys>a</Key>",
                                         "<Key>a<b/></Key>",
                                         "<Key>&unknown;</Key>",
                                         "<Key>&am</Key>",
                                         "<Key>&</Key>",
                                         "<Key>12345678</Key>"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[8];
        assert_false(mf_s3_xml_text(of(broken[i]), "Key", text, sizeof text));
    }
    char text[8];
    assert_true(mf_s3_xml_text(of("<<Key<Key>1234567</Key>"), "Key", text, sizeof text));
    assert_string_equal(text, "1234567");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(entries_come_one_after_the_other),
                                       cmocka_unit_test(what_is_broken_is_no_element)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
