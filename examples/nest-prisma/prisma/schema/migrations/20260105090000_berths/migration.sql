-- CreateTable
CREATE TABLE "Berth" (
    "id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    "name" TEXT NOT NULL,
    "vessel" TEXT
);

-- CreateIndex
CREATE UNIQUE INDEX "Berth_name_key" ON "Berth"("name");

INSERT INTO "Berth" ("name", "vessel") VALUES ('North Pier 1', 'Isle of Jura'), ('North Pier 2', NULL);
