# Tests of text, shards, batches and preprocessing.
duologue_test(hdf5_file_test LABEL unit SOURCES hdf5_file_test.cpp LIBRARIES duologue_data)
duologue_test(tokenizer_test LABEL unit SOURCES tokenizer_test.cpp LIBRARIES duologue_data)
duologue_test(batches_test LABEL unit SOURCES batches_test.cpp LIBRARIES duologue_preprocess)
duologue_test(demo_corpus_test LABEL unit SOURCES demo_corpus_test.cpp LIBRARIES duologue_preprocess
              nlohmann_json::nlohmann_json)
duologue_test(inspection_test LABEL unit SOURCES inspection_test.cpp
              LIBRARIES duologue_preprocess nlohmann_json::nlohmann_json)
duologue_test(shards_test LABEL unit SOURCES shards_test.cpp LIBRARIES duologue_preprocess)
duologue_test(preprocess_test LABEL unit SOURCES preprocess_test.cpp
              LIBRARIES duologue_preprocess nlohmann_json::nlohmann_json ZLIB::ZLIB PkgConfig::ZSTD)
