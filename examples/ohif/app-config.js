// OHIF on one reading of a Halfscan study: /viewer?StudyInstanceUIDs=UID&reading=CODE&token=TOKEN
// Put this file in the place of OHIF's own app-config.js. The reader's token goes to the API alone.
(() => {
  const api = "http://127.0.0.1:8780"; // address of the Halfscan API, as the reader's browser sees it
  const code = new URLSearchParams(window.location.search).get("reading") || "none";
  const root = `${api}/api/v1/blinded/${encodeURIComponent(code)}/dicom-web`;
  window.config = {
    routerBasename: "/",
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: false,
    maxNumberOfWebWorkers: 2,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: false,
    strictZSpacingForVolumeViewport: true,
    investigationalUseDialog: { option: "never" },
    defaultDataSourceName: "halfscan",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "halfscan",
        configuration: {
          friendlyName: "Blinded reading",
          name: "halfscan",
          qidoRoot: root,
          wadoRoot: root,
          wadoUriRoot: root,
          qidoSupportsIncludeField: false,
          imageRendering: "wadors",
          thumbnailRendering: "thumbnail",
          enableStudyLazyLoad: true,
          supportsFuzzyMatching: false,
          supportsWildcard: false,
          dicomUploadEnabled: false,
          singlepart: "bulkdata,video,pdf",
          omitQuotationForMultipartRequest: true,
        },
      },
    ],
  };
})();
